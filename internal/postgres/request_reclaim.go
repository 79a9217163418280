package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Walks the live requests, which are few. Rows that are locked are just being
// taken over or finished. A start of a redelivered message and this statement
// do the same to a request; whichever comes first is the one that counts.
const reclaimSQL = `
WITH orphans AS MATERIALIZED (
    SELECT ctid AS place FROM requests
     WHERE state = 'processing' AND daemon_id = ANY ($1::uuid[])
     ORDER BY batch_id, line LIMIT $2
       FOR UPDATE SKIP LOCKED
)
UPDATE requests r
   SET state = 'pending', daemon_id = NULL, due_at = now(), not_before = NULL, takeovers = r.takeovers + 1
  FROM orphans
 WHERE r.ctid = orphans.place
RETURNING r.batch_id, r.line, r.claim, r.attempt, r.routed_model`

// Reclaim returns up to n requests that these daemons were processing to
// pending, to be claimed at once. The daemons must be dead; see DeclareDead. It
// returns what was returned, with the claims that are void now.
func (s *Store) Reclaim(ctx context.Context, dead []batch.DaemonID, n int) ([]Overdue, error) {
	ids := make([][16]byte, len(dead))
	for i, id := range dead {
		ids[i] = [16]byte(id)
	}
	reclaimed, err := collect(ctx, s, func(row pgx.CollectableRow) (r Overdue, err error) {
		err = row.Scan((*[16]byte)(&r.ID.Batch), &r.ID.Line, &r.Claim, &r.Attempt, (*string)(&r.Model))
		return r, err
	}, reclaimSQL, ids, n)
	if err != nil {
		return nil, fmt.Errorf("reclaiming requests: %w", err)
	}
	return reclaimed, nil
}
