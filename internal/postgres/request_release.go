package postgres

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

// Fenced by claim and delivery: a request that was started or claimed anew in
// the meantime is left alone.
const releaseClaimsSQL = `
WITH i AS (
    SELECT i.claim, i.delivery, r.ctid AS place
      FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) AS i (batch_id, line, claim, delivery)
     CROSS JOIN LATERAL (SELECT ctid FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r
     LIMIT cardinality($1)
)
UPDATE requests r
   SET state = 'pending', daemon_id = NULL, due_at = now() + $5::interval, not_before = NULL
  FROM i
 WHERE r.ctid = i.place AND r.claim = i.claim AND r.delivery = i.delivery`

// ReleaseClaims returns requests that have no message to pending, to be claimed
// again after the delay. It returns how many were returned.
func (s *Store) ReleaseClaims(ctx context.Context, requests []ClaimedRequest, delay time.Duration) (int, error) {
	k := newKeys(len(requests))
	for _, r := range inOrder(requests, func(r *ClaimedRequest) batch.RequestID { return r.ID }) {
		k.add(r.ID, r.Claim, r.Delivery)
	}
	n, err := s.exec(ctx, releaseClaimsSQL, k.batches, k.lines, k.claims, k.deliveries, delay)
	if err != nil {
		return 0, fmt.Errorf("unclaiming requests: %w", err)
	}
	return int(n), nil
}
