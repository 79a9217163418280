package fusillade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

// BatchID identifies a batch.
type BatchID batch.ID

// String is the id as the HTTP API and the command line have it.
func (id BatchID) String() string { return batch.ID(id).String() }

// ParseBatchID reads what String returns.
func ParseBatchID(text string) (BatchID, error) {
	id, err := batch.ParseID(text)
	return BatchID(id), err
}

// ErrNotFound is returned for a batch that is not there, or is another owner's.
var ErrNotFound = batch.ErrNotFound

// Status is where a batch is.
type Status string

const (
	InProgress Status = Status(batch.StatusInProgress)
	Completed  Status = Status(batch.StatusCompleted) // some requests may have failed
	Failed     Status = Status(batch.StatusFailed)    // all requests have
	Expired    Status = Status(batch.StatusExpired)   // some requests did not finish in time
	Cancelled  Status = Status(batch.StatusCancelled)
)

// Batch is what is known of a batch.
type Batch struct {
	ID         BatchID
	Status     Status
	Total      int64
	Completed  int64
	Failed     int64
	Canceled   int64
	Expired    int64
	CreatedAt  time.Time
	ExpiresAt  time.Time
	FinishedAt time.Time // zero: it is in progress
	Metadata   map[string]string
}

// Ended reports whether nothing of the batch changes any more by itself.
func (b Batch) Ended() bool { return b.Status != InProgress }

func fromStore(b postgres.Batch) Batch {
	return Batch{
		ID: BatchID(b.ID), Status: Status(b.Status), Total: b.Counts.Total, Completed: b.Counts.Completed, Failed: b.Counts.Failed,
		Canceled: b.Counts.Canceled, Expired: b.Counts.Expired, CreatedAt: b.CreatedAt, ExpiresAt: b.ExpiresAt, FinishedAt: b.FinishedAt, Metadata: b.Metadata,
	}
}

// Batch reads a batch. It returns ErrNotFound.
func (f *Fusillade) Batch(ctx context.Context, id BatchID) (Batch, error) {
	b, err := f.resources.Store.GetBatch(ctx, batch.ID(id), &f.cfg.Owner)
	return fromStore(b), err
}

// The pauses of Wait.
const minPoll, maxPoll = 20 * time.Millisecond, time.Second

// Wait returns the batch when it has ended. It returns ErrNotFound, and ctx's error
// with the batch as it was last.
func (f *Fusillade) Wait(ctx context.Context, id BatchID) (last Batch, err error) {
	pause := backoff.New(minPoll, maxPoll)
	for {
		b, err := f.Batch(ctx, id)
		switch {
		case err == nil && b.Ended():
			return b, nil
		case err == nil:
			last = b
		case ctx.Err() != nil:
			return last, ctx.Err()
		case !postgres.Transient(err):
			return last, err
		}
		if err := pause.Wait(ctx); err != nil {
			return last, err
		}
	}
}

// Cancel ends a batch: when it returns, nothing of it is begun any more. It returns
// ErrNotFound, and an error for a batch that has ended.
func (f *Fusillade) Cancel(ctx context.Context, id BatchID) (Batch, error) {
	if _, err := f.Batch(ctx, id); err != nil { // it may be another owner's
		return Batch{}, err
	}
	b, err := f.controller.Cancel(ctx, batch.ID(id))
	return fromStore(b), err
}

// Rerun calls again the requests of a batch that failed, were canceled or expired,
// and returns how many. Their results are gone at once.
func (f *Fusillade) Rerun(ctx context.Context, id BatchID) (int, error) {
	if _, err := f.Batch(ctx, id); err != nil {
		return 0, err
	}
	return f.controller.Rerun(ctx, batch.ID(id), batch.Allowance{}, batch.Failed, batch.Canceled, batch.Expired)
}

// Result is the end of one request.
type Result struct {
	Batch      BatchID
	CustomID   string
	StatusCode int             // of the last response; 0: there was none
	RequestID  string          // the endpoint's own, of the response
	Body       json.RawMessage // of the last response, as it came; nil: there was none
	Attempts   int             // calls made
	Error      *ResultError    // nil: it completed
	// Next is where Results goes on after this one.
	Next int64
}

// ResultError is why a request did not complete.
type ResultError struct{ Code, Message string }

// Error returns the message.
func (e *ResultError) Error() string { return e.Message }

// resultsPage is the most results that are read at once; their bytes are bounded too.
const resultsPage = 1000

// Results walks the results that a batch has so far, in the order in which they
// came. While the batch is in progress there may be more later: see ResultsFrom.
func (f *Fusillade) Results(ctx context.Context, id BatchID) iter.Seq2[Result, error] {
	return f.ResultsFrom(ctx, id, 0)
}

// ResultsFrom walks the results from a place on, which is Next of one that was read
// before. A program that keeps it beside what it makes of each result handles each
// of them, whatever crashes in between; one that was rerun comes again, at a new
// place.
func (f *Fusillade) ResultsFrom(ctx context.Context, id BatchID, from int64) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		if _, err := f.Batch(ctx, id); err != nil { // it may be another owner's
			yield(Result{}, err)
			return
		}
		for {
			page, err := f.resources.Store.Results(ctx, batch.ID(id), from, resultsPage)
			if err != nil {
				yield(Result{}, fmt.Errorf("reading results: %w", err))
				return
			}
			for _, r := range page {
				from = r.Seq + 1
				if !yield(result(r), nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
		}
	}
}

func result(r batch.Result) Result {
	out := Result{Batch: BatchID(r.ID.Batch), CustomID: r.CustomID, StatusCode: r.StatusCode, RequestID: r.RequestID, Body: r.Body, Attempts: r.Attempts, Next: r.Seq + 1}
	if r.State != batch.Completed {
		code, message := jsonl.Describe(r)
		out.Error = &ResultError{code, message}
	}
	return out
}

// IsEnded reports whether an error says that a batch has ended already.
func IsEnded(err error) bool {
	var ended *batch.BatchFinishedError
	return errors.As(err, &ended)
}
