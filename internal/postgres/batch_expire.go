package postgres

import (
	"context"
	"time"
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

// ExpireBatches finishes as expired what is left of up to n batches that expired
// grace ago, by Postgres's clock, but for the requests that are processing:
// those finish as their calls do. What a stopping consumer releases of them
// expires at the next call.
//
// It returns the batches of which something expired, also with an error, as
// endBatches does.
func (s *Store) ExpireBatches(ctx context.Context, grace time.Duration, n int) ([]EndedBatch, error) {
	return s.endBatches(ctx, n, expiryPass(grace))
}

func expiryPass(grace time.Duration) outsidePass {
	return outsidePass{
		listSQL: overdueBatchesSQL, isDueSQL: isOverdueSQL, args: []any{grace}, as: asExpired,
		list: "looking for expired batches", end: "expiring",
	}
}
