package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// The fence is that of a result.
const renewSQL = `
WITH i AS (
    SELECT i.claim, i.delivery, r.ctid AS place
      FROM unnest($2::uuid[], $3::int[], $4::int[], $5::int[]) AS i (batch_id, line, claim, delivery)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($2)
)
UPDATE requests r SET started_at = now()
  FROM i
 WHERE r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery AND r.state = 'processing' AND r.daemon_id = $1
RETURNING r.batch_id, r.line`

// RenewStarts lets the processing timeout of the deliveries' requests begin anew:
// their calls take long, and go on. It returns those that the daemon still
// processes, and changes no others.
func (s *Store) RenewStarts(ctx context.Context, daemon batch.DaemonID, deliveries []Delivery) (map[batch.RequestID]bool, error) {
	k := newKeys(len(deliveries))
	for _, d := range inOrder(deliveries, func(d *Delivery) batch.RequestID { return d.ID }) {
		k.add(d.ID, d.Claim, d.Number)
	}
	ids, err := collect(ctx, s, func(row pgx.CollectableRow) (id batch.RequestID, err error) {
		return id, row.Scan((*[16]byte)(&id.Batch), &id.Line)
	}, renewSQL, [16]byte(daemon), k.batches, k.lines, k.claims, k.deliveries)
	if err != nil {
		return nil, fmt.Errorf("renewing starts: %w", err)
	}
	renewed := make(map[batch.RequestID]bool, len(ids))
	for _, id := range ids {
		renewed[id] = true
	}
	return renewed, nil
}
