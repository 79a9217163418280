package postgres

import (
	"context"
	"fmt"
)

// Liveness says whether a delivery that a consumer holds still owns its request.
type Liveness int32

// What may have happened to a delivery.
const (
	// Live: nothing has happened to it; the consumer goes on.
	Live Liveness = iota
	// Ended: the request has ended, was claimed anew or waits for that. Make no
	// call, write nothing, ack the message.
	Ended
	// Taken: a later delivery of the message has the request. Make no call,
	// write nothing, and leave the message to its owner.
	Taken
)

const liveSQL = `
SELECT i.place, COALESCE(r.claim = i.claim AND r.due_at IS NULL, false)
  FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[]) WITH ORDINALITY AS i (batch_id, line, claim, delivery, place)
  LEFT JOIN LATERAL (SELECT claim, delivery, due_at FROM requests WHERE batch_id = i.batch_id AND line = i.line LIMIT 1) r ON true
 WHERE r.claim IS DISTINCT FROM i.claim OR r.delivery > i.delivery OR r.due_at IS NOT NULL`

// CheckLiveness looks up, in one statement, whether deliveries still own their
// requests, and answers in the same order. It changes nothing.
func (s *Store) CheckLiveness(ctx context.Context, deliveries []Delivery) ([]Liveness, error) {
	liveness := make([]Liveness, len(deliveries))
	if len(deliveries) == 0 {
		return liveness, nil
	}
	k := newKeys(len(deliveries))
	for _, d := range deliveries {
		k.add(d.ID, d.Claim, d.Number)
	}
	var place int
	var taken bool
	err := s.forEach(ctx, liveSQL, []any{k.batches, k.lines, k.claims, k.deliveries}, []any{&place, &taken}, func() {
		liveness[place-1] = Ended
		if taken {
			liveness[place-1] = Taken
		}
	})
	if err != nil {
		return nil, fmt.Errorf("looking up requests in flight: %w", err)
	}
	return liveness, nil
}
