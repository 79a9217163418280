package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// WebhookDelivery is an event on its way to an endpoint.
type WebhookDelivery struct {
	Event     string // its id, the same at each attempt; 32 hexadecimal digits
	Type      string // such as batch.completed
	Batch     batch.ID
	CreatedAt time.Time
	Attempt   int // from 1
	Webhook   Webhook

	event, webhook [16]byte
}

// DeliveryResult is the outcome of an attempt.
type DeliveryResult struct {
	Delivered bool
	Retry     time.Duration // until the next attempt; 0: there is none
	Status    int           // 0: no answer
	Error     string        // in words; empty: none
}

const (
	// The longest due first, of each endpoint but those that are busy, and of each
	// owner as many as there are places for. An attempt
	// is leased: if nothing comes of it, as the sender died, it is made again.
	claimDeliveriesSQL = `
WITH due AS (
    SELECT * FROM (
    SELECT d.webhook_id, d.event_id, d.next_attempt_at, w.owner, w.url, w.secret,
           row_number() OVER (PARTITION BY w.owner ORDER BY d.next_attempt_at) AS nth
      FROM webhooks w
     CROSS JOIN LATERAL (
           SELECT webhook_id, event_id, next_attempt_at FROM webhook_deliveries
            WHERE webhook_id = w.id AND next_attempt_at <= now()
            ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED) d
     WHERE w.id <> ALL ($1::uuid[]) AND w.deleted_at IS NULL) d
     WHERE nth <= COALESCE((SELECT o.places FROM unnest($5::text[], $6::int[]) AS o (owner, places) WHERE o.owner = d.owner), $7)
     ORDER BY next_attempt_at LIMIT $3
)
UPDATE webhook_deliveries d SET attempts = d.attempts + 1, next_attempt_at = now() + $4::interval
  FROM due
 WHERE d.webhook_id = due.webhook_id AND d.event_id = due.event_id
RETURNING d.event_id, d.webhook_id, d.type, d.batch_id, d.created_at, d.attempts, due.owner, due.url, due.secret`

	// Fenced by the attempt: whose lease ran out says nothing any more.
	settleDeliverySQL = `
UPDATE webhook_deliveries
   SET delivered_at = CASE WHEN $4 THEN now() END,
       next_attempt_at = CASE WHEN $5::bigint > 0 THEN now() + $5 * interval '1 us' END,
       last_status = NULLIF($6, 0), last_error = NULLIF($7, '')
 WHERE webhook_id = $1 AND event_id = $2 AND attempts = $3 AND next_attempt_at IS NOT NULL`

	purgeDeliveriesSQL = `
DELETE FROM webhook_deliveries WHERE (webhook_id, event_id) IN (
       SELECT webhook_id, event_id FROM webhook_deliveries
        WHERE next_attempt_at IS NULL AND created_at < now() - $1::interval ORDER BY created_at LIMIT $2)`
)

// DeliveryPlaces says how many webhook deliveries may be claimed.
type DeliveryPlaces struct {
	All      int            // in one call
	Endpoint int            // of one endpoint
	Busy     [][16]byte     // endpoints of which none may be
	Owner    int            // of one owner that Owners does not name
	Owners   map[string]int // of these owners
}

// ClaimDeliveries takes events that are due, as many as there are places for, for
// as long as lease.
func (s *Store) ClaimDeliveries(ctx context.Context, p DeliveryPlaces, lease time.Duration) ([]WebhookDelivery, error) {
	busy, owners, places := append([][16]byte{}, p.Busy...), make([]string, 0, len(p.Owners)), make([]int32, 0, len(p.Owners))
	for owner, n := range p.Owners {
		owners, places = append(owners, owner), append(places, int32(n))
	}
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (d WebhookDelivery, err error) {
		err = row.Scan(&d.event, &d.webhook, &d.Type, (*[16]byte)(&d.Batch), &d.CreatedAt, &d.Attempt,
			&d.Webhook.Owner, &d.Webhook.URL, &d.Webhook.Secret)
		d.Event, d.Webhook.ID = fmt.Sprintf("%x", d.event), fmt.Sprintf("%x", d.webhook)
		return d, err
	}, claimDeliveriesSQL, busy, p.Endpoint, p.All, lease, owners, places, p.Owner)
	if err != nil {
		return nil, fmt.Errorf("claiming webhook deliveries: %w", err)
	}
	return list, nil
}

// Endpoint identifies the endpoint to ClaimDeliveries.
func (d *WebhookDelivery) Endpoint() [16]byte { return d.webhook }

// RecordDelivery records the outcome of an attempt. It changes nothing if
// another attempt was begun meanwhile, or the endpoint was deleted.
func (s *Store) RecordDelivery(ctx context.Context, d WebhookDelivery, o DeliveryResult) error {
	_, err := s.exec(ctx, settleDeliverySQL, d.webhook, d.event, d.Attempt, o.Delivered, o.Retry.Microseconds(), o.Status, o.Error)
	if err != nil {
		return fmt.Errorf("recording a webhook delivery: %w", err)
	}
	return nil
}

// PurgeDeliveries removes up to n events older than age that were delivered or
// given up, and the webhooks whose deletion was cut off. It returns how many events.
func (s *Store) PurgeDeliveries(ctx context.Context, age time.Duration, n int) (int, error) {
	if _, err := s.exec(ctx, removeWebhooksSQL); err != nil {
		return 0, fmt.Errorf("removing deleted webhooks: %w", err)
	}
	removed, err := s.exec(ctx, purgeDeliveriesSQL, age, n)
	if err != nil {
		return 0, fmt.Errorf("purging webhook deliveries: %w", err)
	}
	return int(removed), nil
}
