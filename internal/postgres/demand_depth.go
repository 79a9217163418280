package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Depth is the queue of one model: its requests that have not ended.
type Depth struct {
	Model                        batch.Model // as claimed: the routed model
	Pending, Claimed, Processing int64
	// Oldest is the age of the oldest batch with requests that were never
	// claimed, or how long the longest due request has been due, whichever is
	// more; 0: nothing waits for a claim.
	Oldest time.Duration
}

// A row per open cursor, which is what OpenCursors costs, and the live
// requests, which are few. What is pending behind the cursors is not touched.
// $1 is a model, or null for all.
const queueDepthsSQL = `
SELECT model, sum(pending)::bigint, sum(claimed)::bigint, sum(processing)::bigint,
       (GREATEST(max(oldest), 0) * 1e6)::bigint
  FROM (SELECT c.model, sum(c.total - c.claimed - c.skipped) AS pending, 0 AS claimed, 0 AS processing,
               extract(epoch FROM now() - min(b.created_at)) AS oldest
          FROM cursors c JOIN batches b ON b.id = c.batch_id
         WHERE c.open AND b.status = 'in_progress' AND ($1::text IS NULL OR c.model = $1)
         GROUP BY c.model
        UNION ALL
        SELECT routed_model, count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'claimed'),
               count(*) FILTER (WHERE state = 'processing'), extract(epoch FROM now() - min(due_at))
          FROM requests WHERE $1::text IS NULL OR routed_model = $1 GROUP BY routed_model) q
 GROUP BY model`

// QueueDepths returns the queues of all models that have one. It is for the
// leader, every few seconds.
func (s *Store) QueueDepths(ctx context.Context) ([]Depth, error) {
	return s.queueDepths(ctx, nil)
}

// QueueDepth returns the queue of one model; of a model that has none its
// numbers are 0.
func (s *Store) QueueDepth(ctx context.Context, model batch.Model) (Depth, error) {
	depths, err := s.queueDepths(ctx, (*string)(&model))
	if err != nil || len(depths) == 0 {
		return Depth{Model: model}, err
	}
	return depths[0], nil
}

func (s *Store) queueDepths(ctx context.Context, model *string) ([]Depth, error) {
	depths, err := collect(ctx, s, func(row pgx.CollectableRow) (Depth, error) {
		var d Depth
		var micros int64
		err := row.Scan((*string)(&d.Model), &d.Pending, &d.Claimed, &d.Processing, &micros)
		d.Oldest = time.Duration(micros) * time.Microsecond
		return d, err
	}, queueDepthsSQL, model)
	if err != nil {
		return nil, fmt.Errorf("measuring the queue: %w", err)
	}
	return depths, nil
}
