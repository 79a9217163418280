package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/operator"
	"fusillade/internal/postgres"
)

type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Create an API key and print it, this once."`
	Ls     keysLsCmd     `cmd:"" help:"List the keys."`
	Revoke keysRevokeCmd `cmd:"" help:"Revoke a key, at once."`
	databaseFlags
}

type keysCreateCmd struct {
	Owner             string `required:"" placeholder:"NAME" help:"Owner of the files and batches that the key opens."`
	Name              string `placeholder:"TEXT" help:"What the key is for."`
	Admin             bool   `help:"Open the admin routes too, for limits, pauses, daemons and demand."`
	MaxActiveBatches  int    `placeholder:"N" help:"Most batches in progress at once; 0: as the server says."`
	MaxQueuedRequests int64  `placeholder:"N" help:"Most requests without a result; 0: as the server says."`
}

// Run prints the token on standard output and everything else beside it.
func (c *keysCreateCmd) Run(ctx context.Context, t *cli.Terminal, keys *keysCmd) error {
	key := operator.NewKey{
		Owner: c.Owner, Name: c.Name, Admin: c.Admin,
		Allowance: batch.Allowance{ActiveBatches: c.MaxActiveBatches, QueuedRequests: c.MaxQueuedRequests},
	}
	if err := key.Check(); err != nil {
		return err
	}
	return keys.making(ctx, t, func(s *postgres.Store) error {
		id, token, err := operator.CreateKey(ctx, s, key)
		if err != nil {
			return err
		}
		t.Notef("key %s of %s; it is shown only now:", id, c.Owner)
		_, err = fmt.Fprintln(t.Out, token)
		return err
	})
}

type keysLsCmd struct{ formatFlags }

func (c *keysLsCmd) Run(ctx context.Context, t *cli.Terminal, keys *keysCmd) error {
	return keys.with(ctx, t, func(s *postgres.Store) error {
		list, err := s.APIKeys(ctx)
		if err != nil {
			return err
		}
		return cli.PrintList(t, c.format(), cli.All(list), rawKey, keyColumns...)
	})
}

// rawKey is a key as programs read it, without the key itself.
func rawKey(k postgres.APIKey) json.RawMessage {
	line := struct {
		ID                string     `json:"id"`
		Hint              string     `json:"hint"`
		Owner             string     `json:"owner"`
		Name              string     `json:"name"`
		Admin             bool       `json:"admin"`
		MaxActiveBatches  int        `json:"max_active_batches"`
		MaxQueuedRequests int64      `json:"max_queued_requests"`
		CreatedAt         time.Time  `json:"created_at"`
		RevokedAt         *time.Time `json:"revoked_at"`
	}{k.ID, k.Hint, k.Owner, k.Name, k.Admin, k.Allowance.ActiveBatches, k.Allowance.QueuedRequests, k.CreatedAt.UTC(), nil}
	if !k.RevokedAt.IsZero() {
		revoked := k.RevokedAt.UTC()
		line.RevokedAt = &revoked
	}
	return cli.RawLine(line)
}

var keyColumns = []cli.Column[postgres.APIKey]{
	{Name: "ID", Cell: func(k postgres.APIKey) string { return k.ID }},
	{Name: "KEY", Cell: func(k postgres.APIKey) string { return k.Hint + "…" }},
	{Name: "OWNER", Flexible: true, Cell: func(k postgres.APIKey) string { return k.Owner }},
	{Name: "NAME", Flexible: true, Cell: func(k postgres.APIKey) string { return k.Name }},
	{Name: "ADMIN", Cell: func(k postgres.APIKey) string {
		if k.Admin {
			return "yes"
		}
		return "-"
	}},
	{Name: "BATCHES", Wide: true, Cell: func(k postgres.APIKey) string { return limitText(int64(k.Allowance.ActiveBatches)) }},
	{Name: "REQUESTS", Wide: true, Cell: func(k postgres.APIKey) string { return limitText(k.Allowance.QueuedRequests) }},
	{Name: "AGE", Cell: func(k postgres.APIKey) string { return cli.Age(k.CreatedAt.Unix()) }},
	{Name: "CREATED", Wide: true, Cell: func(k postgres.APIKey) string { return cli.Moment(k.CreatedAt.Unix()) }},
	{Name: "REVOKED", Cell: func(k postgres.APIKey) string {
		if k.RevokedAt.IsZero() {
			return "-"
		}
		return cli.Age(k.RevokedAt.Unix())
	}},
}

func limitText(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

type keysRevokeCmd struct {
	ID string `arg:"" placeholder:"ID" help:"As keys ls lists it."`
}

func (c *keysRevokeCmd) Run(ctx context.Context, t *cli.Terminal, keys *keysCmd) error {
	return keys.with(ctx, t, func(s *postgres.Store) error {
		if err := operator.RevokeKey(ctx, s, c.ID); err != nil {
			return err
		}
		t.Notef("revoked")
		return nil
	})
}
