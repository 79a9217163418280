package main

import (
	"context"
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
	return keys.with(ctx, func(s *postgres.Store) error {
		id, token, err := operator.CreateKey(ctx, s, key)
		if err != nil {
			return err
		}
		t.Notef("key %s of %s; it is shown only now:", id, c.Owner)
		_, err = fmt.Fprintln(t.Out, token)
		return err
	})
}

type keysLsCmd struct{}

func (keysLsCmd) Run(ctx context.Context, t *cli.Terminal, keys *keysCmd) error {
	return keys.with(ctx, func(s *postgres.Store) error {
		list, err := s.APIKeys(ctx)
		if err != nil {
			return err
		}
		w := cli.NewTable(t.Out, "ID KEY OWNER NAME ADMIN BATCHES REQUESTS CREATED REVOKED")
		for _, k := range list {
			revoked, admin := "-", "-"
			if k.Admin {
				admin = "yes"
			}
			if !k.RevokedAt.IsZero() {
				revoked = k.RevokedAt.UTC().Format(time.RFC3339)
			}
			fmt.Fprintf(w, "%s\t%s…\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Hint, k.Owner, k.Name, admin,
				limitText(int64(k.Allowance.ActiveBatches)), limitText(k.Allowance.QueuedRequests),
				k.CreatedAt.UTC().Format(time.RFC3339), revoked)
		}
		return w.Flush()
	})
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
	return keys.with(ctx, func(s *postgres.Store) error {
		if err := operator.RevokeKey(ctx, s, c.ID); err != nil {
			return err
		}
		t.Notef("revoked")
		return nil
	})
}
