package batch

import (
	"errors"
	"fmt"
)

// ErrInvalidID is returned for a string that is no id of the kind asked for.
var ErrInvalidID error = refusal("invalid id")

// ErrNotFound is returned when there is no such file, batch, request or model,
// or when it belongs to another owner.
var ErrNotFound error = refusal("not found")

// The errors of things that exist, and whose state forbids what was asked.
// Trying again changes nothing as long as the state is the same.
var (
	// ErrBatchFinished is returned for a change that only a batch in progress
	// allows. The error is a *BatchFinishedError, which has the status.
	ErrBatchFinished error = refusal("the batch has finished")
	// ErrNotRerunnable is returned for a rerun of requests in a state that no
	// rerun takes up: those that completed or have not finished.
	ErrNotRerunnable error = refusal("requests in this state cannot be rerun")
	// ErrRerunSuperseded is returned by a rerun during which the batch was
	// cancelled, or another rerun of it began. What it had put back to pending
	// before that stays so.
	ErrRerunSuperseded error = refusal("the batch was cancelled or rerun meanwhile")
	// ErrRerunLimit is returned for a rerun of a batch that was cancelled or rerun
	// so often that its output has no places left. Only databases of a size that
	// could not be migrated at once have this bound.
	ErrRerunLimit error = refusal("the batch was rerun too often: its output has no places left")
	// ErrBudgetSpent is returned for a rerun of a batch whose budget is spent.
	ErrBudgetSpent error = refusal("the budget of the batch is spent")
	// ErrBatchCancelling is returned for a rerun of a batch whose cancel is under
	// way.
	ErrBatchCancelling error = refusal("the batch is being cancelled")
	// ErrFileDeleted is returned for a rerun of a batch whose file was deleted:
	// the bodies of its requests are gone.
	ErrFileDeleted error = refusal("the file of the batch was deleted")
	// ErrKeyGone is returned for a rerun of a batch with an API key of its own,
	// which was removed when the batch finished and was not given again.
	ErrKeyGone error = refusal("the API key of the batch was removed when it finished")
	// ErrOtherEndpoint is returned for a rerun of a job whose calls go to another
	// endpoint than this process has.
	ErrOtherEndpoint error = refusal("the batch is a job of another endpoint")
	// ErrFileState is returned when lines or settings are added to a file that is
	// not being uploaded, or when a file is to be dropped as unfinished that was
	// finished.
	ErrFileState error = refusal("the state of the file does not allow it")
	// ErrUploadState is returned when an upload is not pending any more: it was
	// completed or cancelled, or it expired. Where the state is known, the error
	// is an *UploadStateError.
	ErrUploadState error = refusal("the upload is not pending")
	// ErrUploadOverfull is returned for a part beyond what an upload may receive:
	// twice its bytes and one part.
	ErrUploadOverfull error = refusal("the upload has received more than twice its bytes")
	// ErrTooMany is returned beyond a fixed bound. The error is a *TooManyError,
	// which has the bound.
	ErrTooMany error = refusal("too many")
	// ErrNoEscalation is returned for an escalation threshold of a model that has
	// no escalation model.
	ErrNoEscalation error = refusal("an escalation threshold needs an escalation model")
	// ErrDaemonDead is returned to a daemon that others have declared dead. It
	// must stop: what it was calling belongs to others.
	ErrDaemonDead error = refusal("the daemon was declared dead")
)

// BatchFinishedError is an ErrBatchFinished with the status of the batch.
type BatchFinishedError struct{ Status Status }

// Error names the status.
func (e *BatchFinishedError) Error() string { return fmt.Sprintf("the batch is already %s", e.Status) }

// Is reports whether target is ErrBatchFinished.
func (*BatchFinishedError) Is(target error) bool {
	return target == ErrBatchFinished
}

func (*BatchFinishedError) refused() {}

// UploadStateError is an ErrUploadState with the status of the upload.
type UploadStateError struct{ Status string }

// Error names the status.
func (e *UploadStateError) Error() string { return fmt.Sprintf("the upload is already %s", e.Status) }

// Is reports whether target is ErrUploadState.
func (*UploadStateError) Is(target error) bool {
	return target == ErrUploadState
}

func (*UploadStateError) refused() {}

// NoLineError is returned for a line that the file of a batch does not have. It is
// ErrNotFound.
type NoLineError struct{ Line int32 }

// Error names the line.
func (e *NoLineError) Error() string { return fmt.Sprintf("line %d is not in the batch", e.Line) }

// Unwrap has errors.Is find ErrNotFound.
func (*NoLineError) Unwrap() error { return ErrNotFound }

func (*NoLineError) refused() {}

// TooManyError is an ErrTooMany with the bound.
type TooManyError struct {
	What  string // in the plural, such as "lines in one call"
	Limit int
}

// Error says what there may be how many of.
func (e *TooManyError) Error() string {
	return fmt.Sprintf("at most %d %s are allowed", e.Limit, e.What)
}

// Is reports whether target is ErrTooMany.
func (*TooManyError) Is(target error) bool {
	return target == ErrTooMany
}

func (*TooManyError) refused() {}

// refusal is a sentinel of this file. It is comparable, as errors.Is needs.
type refusal string

func (e refusal) Error() string { return string(e) }
func (refusal) refused()        {}

// IsRefusal reports whether err is an answer of the domain and not a failure:
// one of this package's errors, which the same call gets again.
func IsRefusal(err error) bool {
	var r interface{ refused() }
	return errors.As(err, &r)
}
