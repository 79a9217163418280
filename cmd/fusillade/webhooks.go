package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fusillade/internal/cli"
	"fusillade/internal/operator"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

type webhooksCmd struct {
	Create webhooksCreateCmd `cmd:"" help:"Add an endpoint that is notified when batches of an owner end, and print its secret, this once."`
	Ls     webhooksLsCmd     `cmd:"" help:"List the endpoints."`
	Delete webhooksDeleteCmd `cmd:"" help:"Remove an endpoint and what was to be delivered to it."`
	Test   webhooksTestCmd   `cmd:"" help:"Deliver a signed event to an endpoint now: batch.completed of a batch that does not exist."`
	databaseFlags
}

type webhooksCreateCmd struct {
	Owner string `required:"" placeholder:"NAME" help:"Owner of the batches; local where the API asks for no keys."`
	URL   string `name:"url" required:"" placeholder:"URL" help:"Where events are posted."`
}

// Run prints the secret on standard output and everything else beside it.
func (c *webhooksCreateCmd) Run(ctx context.Context, t *cli.Terminal, w *webhooksCmd) error {
	if err := operator.CheckWebhook(c.Owner, c.URL); err != nil {
		return err
	}
	keys, _, err := webhookSettings()
	if err != nil {
		return err
	}
	return w.making(ctx, t, func(s *postgres.Store) error {
		id, secret, err := operator.CreateWebhook(ctx, s, keys, c.Owner, c.URL)
		if err != nil {
			return err
		}
		t.Notef("webhook %s of %s; its secret is shown only now:", id, c.Owner)
		_, err = fmt.Fprintln(t.Out, secret)
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
	keys, err := seal.New(cfg.Encryption.Key.All()...)
	if err == nil && keys == nil {
		err = cli.Usage(errors.New("FUSILLADE_ENCRYPTION_KEY is not set: secrets of webhooks are stored only encrypted"))
	}
	return keys, cfg.AllowPrivate, err
}

type webhooksLsCmd struct{ formatFlags }

func (c *webhooksLsCmd) Run(ctx context.Context, t *cli.Terminal, w *webhooksCmd) error {
	return w.with(ctx, t, func(s *postgres.Store) error {
		list, err := s.Webhooks(ctx)
		if err != nil {
			return err
		}
		return cli.PrintList(t, c.format(), cli.All(list), rawWebhook, webhookColumns...)
	})
}

// rawWebhook is an endpoint as programs read it, without its secret.
func rawWebhook(w postgres.Webhook) json.RawMessage {
	return cli.RawLine(struct {
		ID        string    `json:"id"`
		Owner     string    `json:"owner"`
		URL       string    `json:"url"`
		CreatedAt time.Time `json:"created_at"`
	}{w.ID, w.Owner, w.URL, w.CreatedAt.UTC()})
}

var webhookColumns = []cli.Column[postgres.Webhook]{
	{Name: "ID", Cell: func(w postgres.Webhook) string { return w.ID }},
	{Name: "OWNER", Flexible: true, Cell: func(w postgres.Webhook) string { return w.Owner }},
	{Name: "URL", Flexible: true, Cell: func(w postgres.Webhook) string { return w.URL }},
	{Name: "AGE", Cell: func(w postgres.Webhook) string { return cli.Age(w.CreatedAt.Unix()) }},
	{Name: "CREATED", Wide: true, Cell: func(w postgres.Webhook) string { return cli.Moment(w.CreatedAt.Unix()) }},
}

type webhooksDeleteCmd struct {
	ID string `arg:"" placeholder:"ID" help:"As webhooks ls lists it."`
}

func (c *webhooksDeleteCmd) Run(ctx context.Context, t *cli.Terminal, w *webhooksCmd) error {
	return w.with(ctx, t, func(s *postgres.Store) error {
		if err := operator.DeleteWebhook(ctx, s, c.ID); err != nil {
			return err
		}
		t.Notef("deleted")
		return nil
	})
}

type webhooksTestCmd struct {
	ID string `arg:"" placeholder:"ID" help:"As webhooks ls lists it."`
}

func (c *webhooksTestCmd) Run(ctx context.Context, t *cli.Terminal, w *webhooksCmd) error {
	keys, allowPrivate, err := webhookSettings()
	if err != nil {
		return err
	}
	return w.with(ctx, t, func(s *postgres.Store) error {
		status, err := operator.TestWebhook(ctx, s, keys, allowPrivate, c.ID)
		if err != nil {
			return err
		}
		t.Notef("delivered: it answered with status %d", status)
		return nil
	})
}
