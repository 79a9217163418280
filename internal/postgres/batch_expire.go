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
 WHERE b.status = 'in_progress' AND b.expires_at <= now() - $1::interval
   AND (EXISTS (SELECT FROM cursors WHERE batch_id = b.id AND open)
        OR EXISTS (SELECT FROM requests WHERE batch_id = b.id AND state <> 'processing'))
 ORDER BY b.expires_at LIMIT $2`

// Checked again under the lock: a retry may have renewed the window.
const isOverdueSQL = `
SELECT status = 'in_progress' AND expires_at <= now() - $2::interval FROM batches WHERE id = $1`

// Expiry is a batch of which requests expired.
type Expiry struct {
	Batch    batch.ID
	Requests int  // that expired now
	Ended    bool // the batch has ended with them; else calls are in flight
}

// ExpireBatches ends as expired what is left of up to n batches that expired
// grace ago, by Postgres's clock, but for the requests that are processing:
// those end as their calls do. What a stopping consumer returns of them
// expires at the next call.
//
// It returns the batches of which something expired. Each is a transaction of
// its own; after an error those before it are done.
func (s *Store) ExpireBatches(ctx context.Context, grace time.Duration, n int) ([]Expiry, error) {
	ids, err := s.batchIDs(ctx, overdueBatchesSQL, grace, n)
	if err != nil {
		return nil, fmt.Errorf("looking for expired batches: %w", err)
	}
	var out []Expiry
	for _, id := range ids {
		e, err := s.expire(ctx, id, grace)
		if errors.Is(err, batch.ErrNotFound) {
			continue // deleted since
		}
		if err != nil {
			return out, fmt.Errorf("expiring %s: %w", id, err)
		}
		if e.Requests > 0 {
			out = append(out, e)
		}
	}
	return out, nil
}

func (s *Store) expire(ctx context.Context, id batch.ID, grace time.Duration) (e Expiry, err error) {
	e.Batch = id
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := lockBatch(ctx, tx, id); err != nil {
			return err
		}
		var overdue bool
		if err := tx.QueryRow(ctx, isOverdueSQL, [16]byte(id), grace).Scan(&overdue); err != nil || !overdue {
			return err
		}
		if e.Requests, err = endBatch(ctx, tx, id, batch.Expired); err != nil {
			return err
		}
		return tx.QueryRow(ctx, `SELECT status <> 'in_progress' FROM batches WHERE id = $1`, [16]byte(id)).Scan(&e.Ended)
	})
	return e, err
}

func (s *Store) batchIDs(ctx context.Context, sql string, args ...any) ([]batch.ID, error) {
	return collect(ctx, s, func(row pgx.CollectableRow) (id batch.ID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	}, sql, args...)
}
