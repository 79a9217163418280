package batch

import "errors"

var (
	// ErrInvalidID: a string is no id of the kind asked for.
	ErrInvalidID = errors.New("invalid id")
	// ErrNotFound: there is no such file, batch, request or model.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the thing exists but its state forbids the move.
	ErrConflict = errors.New("state forbids it")
)
