package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// errNothingLive is returned for a batch in progress without anything in it
// that is live or beyond a cursor: its counters disagree with its rows.
var errNothingLive = errors.New("its counters disagree with its rows: it is in progress and nothing of it is live")

const cancellingSQL = `
UPDATE batches SET cancelling_at = clock_timestamp() WHERE id = $1 AND cancelling_at IS NULL`

// CancelBatch finishes every request of a batch that has not finished: when it
// returns, the batch is cancelled, its counters are exact and nothing of it is
// claimed, started or finished any more. Calls in flight are for the caller to
// abort; their results are fenced off.
//
// A batch with very many live requests takes several transactions, of which the
// first closes it to claims and reruns. After an error or a crash between two of
// them the batch is in progress with CancellingAt set; ResumeCancels goes on
// with it, and so does another call.
//
// It returns batch.ErrNotFound, or a *batch.BatchFinishedError for a batch that
// has finished.
func (s *Store) CancelBatch(ctx context.Context, id batch.ID) (Batch, error) {
	err := s.cancel(ctx, id, func(_ context.Context, _ pgx.Tx, status batch.Status, cancelled bool) error {
		if !cancelled || status != batch.StatusCancelled {
			return &batch.BatchFinishedError{Status: status}
		}
		return nil
	})
	if err != nil {
		return Batch{}, fmt.Errorf("cancelling %s: %w", id, err)
	}
	return s.GetBatch(ctx, id, nil)
}

// cancel finishes what is left of a batch as canceled, a slice in each
// transaction. The last one, in which the batch has finished, also runs then,
// with the status and whether this call finished any of it.
func (s *Store) cancel(ctx context.Context, id batch.ID, then func(context.Context, pgx.Tx, batch.Status, bool) error) error {
	for cancelled, finished := false, false; !finished; {
		err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			status, canceled, err := s.cancelSlice(ctx, tx, id)
			if err != nil {
				return err
			}
			cancelled = cancelled || canceled
			if finished = status.Terminal(); !finished {
				return nil
			}
			return then(ctx, tx, status, cancelled)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cancelSlice is what one transaction of a cancel does. It returns the status of
// the batch, and whether it was in progress before.
func (s *Store) cancelSlice(ctx context.Context, tx pgx.Tx, id batch.ID) (status batch.Status, cancelled bool, err error) {
	if status, err = lockBatch(ctx, tx, id); err != nil || status.Terminal() {
		return status, false, err
	}
	if _, err := tx.Exec(ctx, cancellingSQL, [16]byte(id)); err != nil {
		return status, false, err
	}
	done, err := s.finishSlice(ctx, tx, id, asCancelled)
	if err == nil && !done.status.Terminal() && !done.full {
		err = errNothingLive
	}
	return done.status, true, err
}

const cancelledHalfSQL = `
SELECT id FROM batches WHERE status = 'in_progress' AND cancelling_at IS NOT NULL ORDER BY cancelling_at LIMIT $1`

// ResumeCancels goes on with up to n cancels that were begun and not finished,
// as their process died in the middle. It is for the leader. It returns the
// batches that are cancelled now, whose calls in flight are in vain. One that
// fails does not keep it from the others.
func (s *Store) ResumeCancels(ctx context.Context, n int) ([]batch.ID, error) {
	ids, err := s.batchIDs(ctx, cancelledHalfSQL, n)
	if err != nil {
		return nil, fmt.Errorf("looking for cancels to resume: %w", err)
	}
	var resumed []batch.ID
	var failed []error
	for _, id := range ids {
		err := s.cancel(ctx, id, func(context.Context, pgx.Tx, batch.Status, bool) error { return nil })
		switch {
		case err == nil:
			resumed = append(resumed, id)
		case !errors.Is(err, batch.ErrNotFound): // deleted since
			failed = append(failed, fmt.Errorf("cancelling %s: %w", id, err))
		}
	}
	return resumed, errors.Join(failed...)
}
