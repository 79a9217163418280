package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Demand is what waits for a claim of one model, in batches of one completion
// window.
type Demand struct {
	Model   batch.Model // that requests name, or go to after a retry
	Window  string      // as the users wrote it, such as 24h
	Pending int64
	// Deadline is the earliest of the batches'.
	Deadline time.Time
}

// maxDueCounted bounds what a poll of the demand costs.
const maxDueCounted = 100_000

// A row per open cursor, whatever the number of requests behind it, and the
// requests that wait for another claim, from their partial index and up to a
// bound.
const demandSQL = `
SELECT model, completion_window, sum(n)::bigint, min(expires_at)
  FROM (SELECT c.model, b.completion_window, c.total - c.claimed - c.skipped AS n, b.expires_at
          FROM cursors c JOIN batches b ON b.id = c.batch_id
         WHERE c.open AND b.status = 'in_progress'
        UNION ALL
        SELECT d.routed_model, b.completion_window, d.n, b.expires_at
          FROM (SELECT routed_model, batch_id, count(*) AS n
                  FROM (SELECT routed_model, batch_id FROM requests WHERE due_at IS NOT NULL LIMIT $1) due
                 GROUP BY routed_model, batch_id) d
          JOIN batches b ON b.id = d.batch_id AND b.status = 'in_progress') q
 GROUP BY model, completion_window
 ORDER BY model, min(expires_at), completion_window`

// Demand returns what waits, by model and window. Of the requests that wait for
// another claim it counts up to 100,000.
func (s *Store) Demand(ctx context.Context) ([]Demand, error) {
	demand, err := collect(ctx, s, func(row pgx.CollectableRow) (d Demand, err error) {
		err = row.Scan((*string)(&d.Model), &d.Window, &d.Pending, &d.Deadline)
		return d, err
	}, demandSQL, maxDueCounted)
	if err != nil {
		return nil, fmt.Errorf("reading the demand: %w", err)
	}
	return demand, nil
}

const pendingByModelSQL = `
SELECT c.model, sum(c.total - c.claimed - c.skipped)::bigint
  FROM cursors c JOIN batches b ON b.id = c.batch_id
 WHERE c.open AND b.status = 'in_progress' GROUP BY c.model`

// PendingByModel returns how many requests wait for their first claim, by the model
// that they name. It reads every open cursor: for people, not for a hot path.
func (s *Store) PendingByModel(ctx context.Context) (map[batch.Model]int64, error) {
	pending := make(map[batch.Model]int64)
	var model string
	var n int64
	err := s.forEach(ctx, pendingByModelSQL, nil, []any{&model, &n}, func() { pending[batch.Model(model)] = n })
	if err != nil {
		return nil, fmt.Errorf("counting pending requests: %w", err)
	}
	return pending, nil
}
