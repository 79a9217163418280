package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// MaxWebhooks is how many endpoints an owner may have.
const MaxWebhooks = 16

// Webhook is an endpoint that is told of the ends of its owner's batches.
type Webhook struct {
	ID        string
	Owner     string
	URL       string
	Secret    []byte // encrypted
	CreatedAt time.Time
}

const (
	createWebhookSQL = `
INSERT INTO webhooks (id, owner, url, secret)
SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM webhooks WHERE owner = $2 AND deleted_at IS NULL) < $5`
	webhooksSQL = `
SELECT encode(uuid_send(id), 'hex'), owner, url, created_at FROM webhooks WHERE deleted_at IS NULL ORDER BY id`
	webhooksWithSecretsSQL = `
SELECT encode(uuid_send(id), 'hex'), owner, url, created_at, secret FROM webhooks WHERE deleted_at IS NULL ORDER BY id`

	// Two transactions: a deletion that fails after a batch finished without an
	// event, since the row was locked, would have lost it.
	markWebhookSQL    = `UPDATE webhooks SET deleted_at = COALESCE(deleted_at, now()) WHERE encode(uuid_send(id), 'hex') = $1`
	removeWebhooksSQL = `DELETE FROM webhooks WHERE deleted_at IS NOT NULL`
)

// CreateWebhook adds an endpoint and returns its id. encrypt is given that id.
// It returns a *batch.TooManyError if the owner has MaxWebhooks already.
func (s *Store) CreateWebhook(ctx context.Context, owner, url string, encrypt func(id string) ([]byte, error)) (string, error) {
	raw := newID()
	id := fmt.Sprintf("%x", raw)
	secret, err := encrypt(id)
	if err != nil {
		return "", fmt.Errorf("encrypting the secret of a webhook: %w", err)
	}
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockOwnerSQL, owner); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, createWebhookSQL, raw, owner, url, secret, MaxWebhooks)
		if err == nil && tag.RowsAffected() == 0 {
			err = &batch.TooManyError{What: "webhooks of one owner", Limit: MaxWebhooks}
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("creating webhook: %w", err)
	}
	return id, nil
}

// Webhooks returns all endpoints, oldest first, without their secrets.
func (s *Store) Webhooks(ctx context.Context) ([]Webhook, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (w Webhook, err error) {
		err = row.Scan(&w.ID, &w.Owner, &w.URL, &w.CreatedAt)
		return w, err
	}, webhooksSQL)
	return list, wrap("listing webhooks", err)
}

// WebhooksWithSecrets is Webhooks for who may read the encrypted secrets.
func (s *Store) WebhooksWithSecrets(ctx context.Context) ([]Webhook, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (w Webhook, err error) {
		err = row.Scan(&w.ID, &w.Owner, &w.URL, &w.CreatedAt, &w.Secret)
		return w, err
	}, webhooksWithSecretsSQL)
	return list, wrap("reading webhooks", err)
}

// HasWebhooks reports whether there is an endpoint, of whatever owner.
func (s *Store) HasWebhooks(ctx context.Context) (exist bool, err error) {
	if err := s.queryRow(ctx, `SELECT EXISTS (SELECT FROM webhooks)`, nil, &exist); err != nil {
		return false, fmt.Errorf("looking for webhooks: %w", err)
	}
	return exist, nil
}

// DeleteWebhook removes an endpoint and what was to be delivered to it, or
// returns batch.ErrNotFound. After an error it may be deleted already, and be
// removed later; calling again is safe.
func (s *Store) DeleteWebhook(ctx context.Context, id string) error {
	n, err := s.exec(ctx, markWebhookSQL, id)
	switch {
	case err == nil && n == 0:
		err = batch.ErrNotFound
	case err == nil: // after a crash here the next PurgeDeliveries removes it, as it does for a role that may not
		if _, err = s.exec(ctx, removeWebhooksSQL); LacksPrivilege(err) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("deleting webhook %q: %w", id, err)
	}
	return nil
}
