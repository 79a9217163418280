package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Batches in progress whose time is over, and that have something to expire: a
// late batch that only waits for its last calls is left alone.
const overdueBatchesSQL = `
SELECT b.id FROM batches b
 WHERE b.status = 'in_progress' AND b.expires_at <= now() - $1::interval AND b.cancelling_at IS NULL
   AND (EXISTS (SELECT FROM cursors WHERE batch_id = b.id AND open)
        OR EXISTS (SELECT FROM requests WHERE batch_id = b.id AND state <> 'processing'))
 ORDER BY b.expires_at, b.id OFFSET $2 LIMIT $3`

// Checked again under the lock: a rerun may have renewed the window. What is
// being cancelled is not expired as well.
const isOverdueSQL = `
SELECT status = 'in_progress' AND expires_at <= now() - $2::interval AND cancelling_at IS NULL FROM batches WHERE id = $1`

// Expiry is a batch of which requests expired.
type Expiry struct {
	Batch    batch.ID
	Requests int  // that expired now
	Finished bool // the batch has finished with them; else calls are in flight
}

// ExpireBatches finishes as expired what is left of up to n batches that expired
// grace ago, by Postgres's clock, but for the requests that are processing:
// those finish as their calls do. What a stopping consumer releases of them
// expires at the next call.
//
// It returns the batches of which something expired, also with an error: one
// that fails does not keep it from the others, of which it then looks at more
// than n. A batch with very many live requests takes several transactions; after a
// crash in between the next call goes on.
func (s *Store) ExpireBatches(ctx context.Context, grace time.Duration, n int) ([]Expiry, error) {
	var out []Expiry
	var failed []error
	for ctx.Err() == nil {
		// Those that failed are listed again, first, and passed over.
		ids, err := s.batchIDs(ctx, overdueBatchesSQL, grace, len(failed), n)
		if err != nil {
			failed = append(failed, fmt.Errorf("looking for expired batches: %w", err))
			break
		}
		before := len(failed)
		for _, id := range ids {
			e, err := s.expire(ctx, id, grace)
			if err != nil && !errors.Is(err, batch.ErrNotFound) { // deleted since
				failed = append(failed, fmt.Errorf("expiring %s: %w", id, err))
			}
			if e.Requests > 0 {
				out = append(out, e)
			}
		}
		if len(ids) < n || len(failed) == before || len(failed) >= maxFailures {
			break
		}
	}
	return out, errors.Join(failed...)
}

// maxFailures is after how many batches that fail a pass over batches gives up.
const maxFailures = 1000

func (s *Store) expire(ctx context.Context, id batch.ID, grace time.Duration) (Expiry, error) {
	e := Expiry{Batch: id}
	for more := true; more; {
		var done slice
		err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			var err error
			done, err = s.expireSlice(ctx, tx, id, grace)
			return err
		})
		if err != nil {
			return e, err
		}
		e.Requests += done.finished
		e.Finished = done.status.Terminal()
		more = done.full && !e.Finished
	}
	return e, nil
}

// expireSlice is what one transaction of an expiry does.
func (s *Store) expireSlice(ctx context.Context, tx pgx.Tx, id batch.ID, grace time.Duration) (done slice, err error) {
	if _, err := lockBatch(ctx, tx, id); err != nil {
		return done, err
	}
	var overdue bool
	if err := tx.QueryRow(ctx, isOverdueSQL, [16]byte(id), grace).Scan(&overdue); err != nil || !overdue {
		return done, err
	}
	return s.finishSlice(ctx, tx, id, asExpired)
}

func (s *Store) batchIDs(ctx context.Context, sql string, args ...any) ([]batch.ID, error) {
	return collect(ctx, s, func(row pgx.CollectableRow) (id batch.ID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	}, sql, args...)
}
