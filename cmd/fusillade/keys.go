package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"text/tabwriter"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Make an API key and print it, this once."`
	Ls     keysLsCmd     `cmd:"" help:"List the keys."`
	Revoke keysRevokeCmd `cmd:"" help:"Make a key invalid, at once."`

	DataDir string `placeholder:"DIR" help:"The data directory of fusillade serve, which must not be running. Not used where FUSILLADE_DATABASE_URL is set. Default: a directory for your user."`
}

type keysCreateCmd struct {
	Owner             string `required:"" placeholder:"NAME" help:"Whose files and batches the key opens."`
	Name              string `placeholder:"TEXT" help:"What the key is for."`
	Admin             bool   `help:"For operators: it opens the admin routes too, for limits, pauses, daemons and demand."`
	MaxActiveBatches  int    `placeholder:"N" help:"Most batches in progress at once; 0: as the server says."`
	MaxQueuedRequests int64  `placeholder:"N" help:"Most requests without a result; 0: as the server says."`
}

const maxOwnerBytes = 256

// Run prints the token on standard output and everything else beside it. Only
// its hash is kept.
func (c *keysCreateCmd) Run(ctx context.Context, t *terminal, keys *keysCmd) error {
	if c.Owner == "" || len(c.Owner) > maxOwnerBytes {
		return usage(fmt.Errorf("--owner must have 1 to %d bytes", maxOwnerBytes))
	}
	if c.MaxActiveBatches < 0 || c.MaxQueuedRequests < 0 {
		return usage(errors.New("limits must not be negative"))
	}
	return keys.with(ctx, func(s *postgres.Store) error {
		token, hint, hash := api.NewToken()
		id, err := s.CreateAPIKey(ctx, postgres.APIKey{
			Hint: hint, Owner: c.Owner, Name: c.Name, Admin: c.Admin,
			Allowance: batch.Allowance{ActiveBatches: c.MaxActiveBatches, QueuedRequests: c.MaxQueuedRequests},
		}, hash)
		if err != nil {
			return err
		}
		t.say("key %s of %s; it is shown only now:", id, c.Owner)
		_, err = fmt.Fprintln(t.out, token)
		return err
	})
}

type keysLsCmd struct{}

func (keysLsCmd) Run(ctx context.Context, t *terminal, keys *keysCmd) error {
	return keys.with(ctx, func(s *postgres.Store) error {
		list, err := s.APIKeys(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tKEY\tOWNER\tNAME\tADMIN\tBATCHES\tREQUESTS\tCREATED\tREVOKED")
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

func (c *keysRevokeCmd) Run(ctx context.Context, t *terminal, keys *keysCmd) error {
	return keys.with(ctx, func(s *postgres.Store) error {
		if err := s.RevokeAPIKey(ctx, c.ID); errors.Is(err, batch.ErrNotFound) {
			return usage(fmt.Errorf("there is no valid key %q: see fusillade keys ls", c.ID))
		} else if err != nil {
			return err
		}
		t.say("revoked")
		return nil
	})
}

// with opens the cluster's database, or that of a data directory.
func (k *keysCmd) with(ctx context.Context, do func(*postgres.Store) error) error {
	return withStore(ctx, k.DataDir, do)
}

// withStore opens the cluster's database, or that of a data directory.
func withStore(ctx context.Context, given string, do func(*postgres.Store) error) error {
	cfg, err := loadSettings()
	if err != nil {
		return err
	}
	if cfg.Postgres.URL.IsSet() {
		s, err := postgres.Open(ctx, postgres.Config{URL: cfg.Postgres.URL.Reveal(), MaxConns: 2, ApplicationName: "fusillade-cli"})
		if err != nil {
			return err
		}
		defer s.Close()
		return do(s)
	}
	dir, err := dataDir(given)
	if err != nil {
		return usage(err)
	}
	local, err := app.StartLocal(ctx, app.LocalConfig{
		DataDir: dir, Settings: cfg, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return usage(err)
	}
	return errors.Join(do(local.Store), local.Stop())
}
