package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/webhook"
)

type webhooksCmd struct {
	Create webhooksCreateCmd `cmd:"" help:"Add an endpoint that is told when batches of an owner end, and print its secret, this once."`
	Ls     webhooksLsCmd     `cmd:"" help:"List the endpoints."`
	Delete webhooksDeleteCmd `cmd:"" help:"Remove an endpoint and what was to be delivered to it."`
	Test   webhooksTestCmd   `cmd:"" help:"Deliver a signed event to an endpoint now: batch.completed of a batch that does not exist."`

	DataDir string `placeholder:"DIR" help:"The data directory of fusillade serve, which must not be running. Not used where FUSILLADE_DATABASE_URL is set. Default: a directory for your user."`
}

type webhooksCreateCmd struct {
	Owner string `required:"" placeholder:"NAME" help:"Of the batches; local where the API asks for no keys."`
	URL   string `name:"url" required:"" placeholder:"URL" help:"Where events are posted."`
}

// Run prints the secret on standard output and everything else beside it.
func (c *webhooksCreateCmd) Run(ctx context.Context, t *terminal, w *webhooksCmd) error {
	if c.Owner == "" || len(c.Owner) > maxOwnerBytes {
		return usage(fmt.Errorf("--owner must have 1 to %d bytes", maxOwnerBytes))
	}
	if err := webhook.CheckURL(c.URL); err != nil {
		return usage(fmt.Errorf("--url %w", err))
	}
	box, _, err := webhookSettings()
	if err != nil {
		return err
	}
	return withStore(ctx, w.DataDir, func(s *postgres.Store) error {
		secret := webhook.NewSecret()
		id, err := s.CreateWebhook(ctx, c.Owner, c.URL, func(id string) ([]byte, error) {
			return box.Seal(seal.WebhookSecret(id, c.URL), secret)
		})
		if errors.Is(err, batch.ErrTooMany) {
			return usage(fmt.Errorf("%s has %d endpoints already: delete one first", c.Owner, postgres.MaxWebhooks))
		}
		if err != nil {
			return err
		}
		t.say("webhook %s of %s; its secret is shown only now:", id, c.Owner)
		_, err = fmt.Fprintln(t.out, secret)
		return err
	})
}

// webhookSettings returns what encrypts secrets, and whether private addresses
// are allowed.
func webhookSettings() (*seal.Keyring, bool, error) {
	cfg, err := loadSettings()
	if err != nil {
		return nil, false, err
	}
	box, err := seal.New(cfg.Encryption.Key.All()...)
	if err == nil && box == nil {
		err = usage(errors.New("FUSILLADE_ENCRYPTION_KEY is not set: secrets of webhooks are stored only encrypted"))
	}
	return box, cfg.AllowPrivate, err
}

type webhooksLsCmd struct{}

func (webhooksLsCmd) Run(ctx context.Context, t *terminal, w *webhooksCmd) error {
	return withStore(ctx, w.DataDir, func(s *postgres.Store) error {
		list, err := s.Webhooks(ctx)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "ID\tOWNER\tURL\tCREATED")
		for _, h := range list {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", h.ID, h.Owner, h.URL, h.CreatedAt.UTC().Format(time.RFC3339))
		}
		return table.Flush()
	})
}

type webhooksDeleteCmd struct {
	ID string `arg:"" placeholder:"ID" help:"As webhooks ls lists it."`
}

func (c *webhooksDeleteCmd) Run(ctx context.Context, t *terminal, w *webhooksCmd) error {
	return withStore(ctx, w.DataDir, func(s *postgres.Store) error {
		if err := s.DeleteWebhook(ctx, c.ID); errors.Is(err, batch.ErrNotFound) {
			return usage(fmt.Errorf("there is no webhook %q: see fusillade webhooks ls", c.ID))
		} else if err != nil {
			return err
		}
		t.say("deleted")
		return nil
	})
}

type webhooksTestCmd struct {
	ID string `arg:"" placeholder:"ID" help:"As webhooks ls lists it."`
}

func (c *webhooksTestCmd) Run(ctx context.Context, t *terminal, w *webhooksCmd) error {
	box, allowPrivate, err := webhookSettings()
	if err != nil {
		return err
	}
	return withStore(ctx, w.DataDir, func(s *postgres.Store) error {
		list, err := s.Webhooks(ctx)
		if err != nil {
			return err
		}
		for _, h := range list {
			if h.ID != c.ID {
				continue
			}
			sender, err := webhook.New(webhook.Config{Store: s, Keyring: box, AllowPrivate: allowPrivate, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			status, err := sender.Send(ctx, postgres.WebhookDelivery{
				Event: strings.Repeat("0", 32), Type: webhook.TestType, CreatedAt: time.Now(), Attempt: 1, Webhook: h,
			})
			if err != nil {
				return fmt.Errorf("the event was not delivered: %w", err)
			}
			t.say("delivered: it answered with status %d", status)
			return nil
		}
		return usage(fmt.Errorf("there is no webhook %q: see fusillade webhooks ls", c.ID))
	})
}
