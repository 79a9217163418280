package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// ClaimedRequest is a request that the caller must now publish or release
// by ReleaseClaims.
type ClaimedRequest struct {
	ID       batch.RequestID
	Claim    int
	Delivery int // 0 when just claimed
	Attempt  int
	From     batch.Model // which escalated to the one it was claimed for; empty: it names that one
}

// Quota is how many requests of one kind to claim from one batch.
type Quota struct {
	Kind  Kind // not looked at by Claim
	Batch batch.ID
	N     int
	Route Route
}

// Cursors that another dispatcher is claiming from are skipped, so the result
// may be short. The lines come from the index (file, model, line), so the cost
// is that of the lines claimed, however many wait behind them. Whether a route
// is open is judged here again, at the time of the claim.
//
// A cursor with holes is one of whose lines some were given a row out of turn;
// those are passed over. If that happened since this statement's snapshot,
// which cannot show those rows, the cursor as it is now differs from the one in
// the snapshot and is left for the next claim.
const claimSQL = `
WITH cur AS MATERIALIZED (
    SELECT c.batch_id, c.model, c.file_id, c.last_line, c.holes, w.quota
      FROM unnest($2::uuid[], $3::int[], $4::text[], $5::bigint[], $6::bigint[]) WITH ORDINALITY
        AS w (batch_id, quota, model, at_least, below, place)
      JOIN cursors c ON c.batch_id = w.batch_id AND c.model = w.model
      JOIN batches b ON b.id = c.batch_id
     WHERE c.open AND b.status = 'in_progress'
       AND (c.holes = 0 OR c.holes = (SELECT holes FROM cursors WHERE batch_id = c.batch_id AND model = c.model))
       AND (w.at_least = 0 OR b.expires_at >= now() + w.at_least * interval '1 us')
       AND (w.below = 0 OR b.expires_at < now() + w.below * interval '1 us')
     ORDER BY w.place
       FOR UPDATE OF c SKIP LOCKED
), lines AS MATERIALIZED (
    SELECT cur.batch_id, cur.model, cur.file_id, t.line
      FROM cur
     CROSS JOIN LATERAL (
           SELECT line FROM templates
            WHERE file_id = cur.file_id AND model = cur.model AND line > cur.last_line
              AND (cur.holes = 0 OR (SELECT 1 FROM requests r WHERE r.batch_id = cur.batch_id AND r.line = templates.line) IS NULL
                                AND (SELECT 1 FROM results s WHERE s.batch_id = cur.batch_id AND s.line = templates.line) IS NULL)
            ORDER BY file_id, model, line LIMIT cur.quota) t
), moved AS (
    UPDATE cursors c
       SET claimed = c.claimed + m.n, last_line = m.last_line, open = c.claimed + m.n + c.skipped < c.total
      FROM (SELECT batch_id, model, count(*)::int AS n, max(line) AS last_line FROM lines GROUP BY batch_id, model) m
     WHERE c.batch_id = m.batch_id AND c.model = m.model
)
INSERT INTO requests (batch_id, line, file_id, model, routed_model, state, claim)
SELECT batch_id, line, file_id, model, $1, 'claimed', 1 FROM lines
RETURNING batch_id, line, claim, attempt, COALESCE(NULLIF(model, routed_model), '')`

// Claim takes up to the given number of pending requests of each batch for
// the model, to which they come by the quota's route. It returns those that it
// took, in the order of the quotas and of their lines.
func (s *Store) Claim(ctx context.Context, model batch.Model, quotas []Quota) ([]ClaimedRequest, error) {
	batches, ns, r := make([][16]byte, len(quotas)), make([]int32, len(quotas)), newRoutes(len(quotas))
	for i, q := range quotas {
		batches[i], ns[i] = [16]byte(q.Batch), int32(q.N)
		r.add(model, q.Route)
	}
	return s.claim(ctx, claimSQL, string(model), batches, ns, r.models, r.atLeast, r.below)
}

func (s *Store) claim(ctx context.Context, sql string, args ...any) ([]ClaimedRequest, error) {
	claimed, err := collect(ctx, s, func(row pgx.CollectableRow) (ClaimedRequest, error) {
		var c ClaimedRequest
		err := row.Scan((*[16]byte)(&c.ID.Batch), &c.ID.Line, &c.Claim, &c.Attempt, (*string)(&c.From))
		return c, err
	}, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("claiming requests: %w", err)
	}
	return claimed, nil
}
