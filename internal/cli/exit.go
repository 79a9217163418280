package cli

import (
	"context"
	"errors"
)

// Exit codes. Errors of any other kind end with ExitFailed too.
const (
	ExitFailed      = 1   // some requests failed, or a command could not do its work
	ExitUsage       = 2   // bad usage or bad input, or nothing could be started
	ExitEndpoint    = 3   // the model endpoint refuses every call; the job can be taken up again
	ExitInterrupted = 130 // stopped by a signal; the job can be taken up again
)

// ExitError ends the program with a code of its own.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }
func (e *ExitError) Unwrap() error { return e.Err }

// Usage marks an error as one of usage or input.
func Usage(err error) error { return &ExitError{Code: ExitUsage, Err: err} }

// ErrInterrupted is returned when the user stopped the command, which has
// printed what that means.
var ErrInterrupted = errors.New("interrupted")

// Signals are the two contexts of a command: the first signal ends Taking, the
// second one ends Doing.
type Signals struct{ Taking, Doing context.Context }
