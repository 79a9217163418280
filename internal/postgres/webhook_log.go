package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// DeliveryStatus is how an event to an endpoint stands.
type DeliveryStatus struct {
	Event, Webhook string // ids
	Owner, URL     string
	Type           string
	Batch          batch.ID
	CreatedAt      time.Time
	Attempts       int
	NextAttempt    time.Time // zero: there is none
	DeliveredAt    time.Time // zero: not yet, or given up
	LastStatus     int       // 0: there was no answer
	LastError      string
}

const (
	// The next due and the latest settled, from the index of each.
	deliveriesSQL = `
SELECT encode(uuid_send(d.event_id), 'hex'), encode(uuid_send(d.webhook_id), 'hex'), w.owner, w.url, d.type, d.batch_id, d.created_at, d.attempts,
       d.next_attempt_at, d.delivered_at, COALESCE(d.last_status, 0), COALESCE(d.last_error, '')
  FROM (SELECT * FROM (SELECT d.* FROM webhooks w CROSS JOIN LATERAL (
                              SELECT * FROM webhook_deliveries WHERE webhook_id = w.id AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at LIMIT $1) d
                        ORDER BY next_attempt_at LIMIT $1) due
         UNION ALL
        SELECT * FROM (SELECT * FROM webhook_deliveries WHERE next_attempt_at IS NULL ORDER BY created_at DESC LIMIT $1) settled) d
  JOIN webhooks w ON w.id = d.webhook_id AND w.deleted_at IS NULL
 ORDER BY d.created_at DESC LIMIT $1`

	resendSQL = `
UPDATE webhook_deliveries SET next_attempt_at = now(), delivered_at = NULL, attempts = 0
 WHERE webhook_id = (SELECT id FROM webhooks WHERE encode(uuid_send(id), 'hex') = $1 AND deleted_at IS NULL) AND event_id = $2`
)

// Deliveries returns the latest n events to endpoints, delivered or not.
func (s *Store) Deliveries(ctx context.Context, n int) ([]DeliveryStatus, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (d DeliveryStatus, err error) {
		err = row.Scan(&d.Event, &d.Webhook, &d.Owner, &d.URL, &d.Type, (*[16]byte)(&d.Batch), &d.CreatedAt, &d.Attempts,
			orZero(&d.NextAttempt), orZero(&d.DeliveredAt), &d.LastStatus, &d.LastError)
		return d, err
	}, deliveriesSQL, n)
	return list, wrap("listing webhook deliveries", err)
}

// Resend has an event delivered again, from its first attempt on, whatever its
// outcome was. It returns batch.ErrNotFound for one that is not kept any more.
func (s *Store) Resend(ctx context.Context, webhook, event string) error {
	id, err := hex.DecodeString(event)
	if err != nil || len(id) != 16 {
		return fmt.Errorf("sending a webhook delivery again: %w", batch.ErrNotFound)
	}
	n, err := s.exec(ctx, resendSQL, webhook, [16]byte(id))
	if err == nil && n == 0 {
		err = batch.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("sending a webhook delivery again: %w", err)
	}
	return nil
}
