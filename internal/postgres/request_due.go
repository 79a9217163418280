package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

// Escalations are those in force, by the model that requests name.
type Escalations map[batch.Model]batch.Escalation

func (e Escalations) arrays() (from, to []string, thresholds []int64) {
	from, to, thresholds = make([]string, 0, len(e)), make([]string, 0, len(e)), make([]int64, 0, len(e))
	for model, escalation := range e {
		from, to = append(from, string(model)), append(to, string(escalation.Model))
		thresholds = append(thresholds, escalation.Threshold.Microseconds())
	}
	return from, to, thresholds
}

// A request that is due keeps the model that it was last routed to until it
// is rerouted; where it belongs now is judged again at the claim.
const claimDueSQL = `
WITH due AS MATERIALIZED (
    SELECT r.ctid AS place FROM requests r
     CROSS JOIN LATERAL (SELECT expires_at FROM batches WHERE id = r.batch_id LIMIT 1) b
      LEFT JOIN unnest($3::text[], $4::text[], $5::bigint[]) AS e (model, to_model, below)
        ON e.model = r.model AND b.expires_at < now() + e.below * interval '1 us'
     WHERE r.routed_model = $1 AND r.due_at <= now() AND COALESCE(e.to_model, r.model) = $1
       AND r.batch_id <> ALL ($6::uuid[])
     ORDER BY r.routed_model, r.due_at LIMIT $2
       FOR UPDATE OF r SKIP LOCKED
)
UPDATE requests r
   SET state = 'claimed', claim = r.claim + 1, delivery = 0, claimed_at = now(), due_at = NULL, not_before = NULL
  FROM due
 WHERE r.ctid = due.place
RETURNING r.batch_id, r.line, r.claim, r.attempt, COALESCE(NULLIF(r.model, r.routed_model), '')`

// ClaimDue takes up to n requests that were returned to pending, are due, and
// belong to the model by the escalations.
func (s *Store) ClaimDue(ctx context.Context, model batch.Model, n int, e Escalations) ([]ClaimedRequest, error) {
	from, to, thresholds := e.arrays()
	return s.claim(ctx, claimDueSQL, string(model), n, from, to, thresholds, s.held)
}

// Jumps from batch to batch and model to model, so that the cost follows the
// requests that are moved and not those that stay.
const rerouteSQL = `
WITH RECURSIVE waiting AS (
    (SELECT batch_id, model FROM requests WHERE routed_model = $1 AND due_at IS NOT NULL
      ORDER BY routed_model, batch_id, model LIMIT 1)
     UNION ALL
    SELECT n.batch_id, n.model
      FROM waiting w
     CROSS JOIN LATERAL (
           SELECT batch_id, model FROM requests
            WHERE routed_model = $1 AND due_at IS NOT NULL AND (batch_id, model) > (w.batch_id, w.model)
            ORDER BY routed_model, batch_id, model LIMIT 1) n
), misplaced AS MATERIALIZED (
    SELECT w.batch_id, w.model, COALESCE(e.to_model, w.model) AS to_model
      FROM waiting w
     CROSS JOIN LATERAL (SELECT expires_at FROM batches WHERE id = w.batch_id LIMIT 1) b
      LEFT JOIN unnest($3::text[], $4::text[], $5::bigint[]) AS e (model, to_model, below)
        ON e.model = w.model AND b.expires_at < now() + e.below * interval '1 us'
     WHERE COALESCE(e.to_model, w.model) <> $1
), moving AS MATERIALIZED (
    SELECT r.ctid AS place, m.to_model
      FROM misplaced m
      JOIN requests r ON r.routed_model = $1 AND r.due_at IS NOT NULL AND r.batch_id = m.batch_id AND r.model = m.model
     LIMIT $2
       FOR UPDATE OF r SKIP LOCKED
)
UPDATE requests r SET routed_model = m.to_model FROM moving m WHERE r.ctid = m.place
RETURNING r.routed_model`

// Reroute gives up to n requests that wait for a claim for the model, and by
// the escalations do not belong to it, to the models they do belong to. It
// returns how many went to each.
func (s *Store) Reroute(ctx context.Context, model batch.Model, n int, e Escalations) (map[batch.Model]int, error) {
	from, to, thresholds := e.arrays()
	moved := make(map[batch.Model]int)
	var routed string
	err := s.forEach(ctx, rerouteSQL, []any{string(model), n, from, to, thresholds}, []any{&routed}, func() { moved[batch.Model(routed)]++ })
	if err != nil {
		return nil, fmt.Errorf("rerouting requests: %w", err)
	}
	return moved, nil
}
