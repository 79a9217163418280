package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Overdue is a request that should have moved on by now. Its message may be
// lost, or only waiting.
type Overdue struct {
	ClaimedRequest
	Model batch.Model // the routed model
}

// OverdueAfter says when a request is overdue.
type OverdueAfter struct {
	Claim      time.Duration // since its claim, or since the end of its backoff, without a start
	Processing time.Duration // since its start, whatever its daemon says
	Heartbeat  time.Duration // since the last heartbeat of the daemon that started it
}

// Walks all of the live requests, which are few, in the order of their key.
const overdueSQL = `
SELECT r.batch_id, r.line, r.claim, r.delivery, r.attempt, r.routed_model FROM requests r
 WHERE CASE WHEN r.due_at IS NOT NULL THEN false
            WHEN r.state = 'processing' THEN r.started_at < now() - $2::interval OR NOT EXISTS (
                 SELECT FROM daemons d
                  WHERE d.id = r.daemon_id AND d.status <> 'dead' AND d.last_heartbeat > now() - $3::interval)
            ELSE GREATEST(r.claimed_at, r.not_before) < now() - $1::interval END
   AND (r.batch_id, r.line) > ($4, $5)
 ORDER BY r.batch_id, r.line LIMIT $6`

// Overdue lists up to n overdue requests after the given one.
func (s *Store) Overdue(ctx context.Context, t OverdueAfter, after batch.RequestID, n int) ([]Overdue, error) {
	out, err := collect(ctx, s, func(row pgx.CollectableRow) (Overdue, error) {
		var u Overdue
		err := row.Scan((*[16]byte)(&u.ID.Batch), &u.ID.Line, &u.Claim, &u.Delivery, &u.Attempt, (*string)(&u.Model))
		return u, err
	}, overdueSQL, t.Claim, t.Processing, t.Heartbeat, [16]byte(after.Batch), after.Line, n)
	if err != nil {
		return nil, fmt.Errorf("listing overdue requests: %w", err)
	}
	return out, nil
}
