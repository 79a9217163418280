package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/webhook"
)

// CheckWebhook finds out whether an endpoint can be added.
func CheckWebhook(owner, url string) error {
	if owner == "" || len(owner) > maxOwnerBytes {
		return &InputError{fmt.Sprintf("--owner must have 1 to %d bytes", maxOwnerBytes)}
	}
	if err := webhook.CheckURL(url); err != nil {
		return &InputError{"--url " + err.Error()}
	}
	return nil
}

// CreateWebhook adds an endpoint that the ends of an owner's batches are
// delivered to. Its secret is stored encrypted: it is returned this once.
func CreateWebhook(ctx context.Context, s *postgres.Store, keys *seal.Keyring, owner, url string) (id, secret string, err error) {
	if err := CheckWebhook(owner, url); err != nil {
		return "", "", err
	}
	secret = webhook.NewSecret()
	id, err = s.CreateWebhook(ctx, owner, url, func(id string) ([]byte, error) {
		return keys.Seal(seal.WebhookSecret(id, url), secret)
	})
	if errors.Is(err, batch.ErrTooMany) {
		return "", "", &InputError{fmt.Sprintf("%s has %d endpoints already: delete one first", owner, postgres.MaxWebhooks)}
	}
	return id, secret, err
}

// DeleteWebhook removes an endpoint and what was to be delivered to it.
func DeleteWebhook(ctx context.Context, s *postgres.Store, id string) error {
	err := s.DeleteWebhook(ctx, id)
	if errors.Is(err, batch.ErrNotFound) {
		return noWebhook(id)
	}
	return err
}

func noWebhook(id string) error {
	return &InputError{fmt.Sprintf("there is no webhook %q: see fusillade webhooks ls", id)}
}

// TestWebhook delivers a signed event about a batch that does not exist, and
// returns the status that the endpoint answered with.
func TestWebhook(ctx context.Context, s *postgres.Store, keys *seal.Keyring, allowPrivate bool, id string) (status int, err error) {
	list, err := s.WebhooksWithSecrets(ctx)
	if err != nil {
		return 0, err
	}
	for _, h := range list {
		if h.ID != id {
			continue
		}
		sender, err := webhook.New(webhook.Config{Store: s, Keyring: keys, AllowPrivate: allowPrivate, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return 0, err
		}
		status, err := sender.Send(ctx, postgres.WebhookDelivery{
			Event: strings.Repeat("0", 32), Type: webhook.TestType, CreatedAt: time.Now(), Attempt: 1, Webhook: h,
		})
		if err != nil {
			return status, fmt.Errorf("the event was not delivered: %w", err)
		}
		return status, nil
	}
	return 0, noWebhook(id)
}
