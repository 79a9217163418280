package main

import (
	"context"
	"errors"
	"fmt"

	"fusillade/internal/cli"
	"fusillade/internal/operator"
	"fusillade/internal/postgres"
)

type secretsCmd struct {
	Reencrypt secretsReencryptCmd `cmd:"" help:"Encrypt with the first key of FUSILLADE_ENCRYPTION_KEY every secret that another of its keys encrypted."`
	databaseFlags
}

type secretsReencryptCmd struct{}

func (secretsReencryptCmd) Run(ctx context.Context, t *cli.Terminal, c *secretsCmd) error {
	keys, err := openKeyring()
	if err != nil {
		return err
	}
	if keys == nil {
		return cli.Usage(errors.New("FUSILLADE_ENCRYPTION_KEY is not set: it must hold the new key, and the old ones after it"))
	}
	return c.with(ctx, t, func(s *postgres.Store) error {
		r, err := operator.Reencrypt(ctx, s, keys, t.Notef)
		if err != nil {
			return err
		}
		t.Notef("%d encrypted anew, %d were already", r.Done, r.Already)
		if r.Left > 0 {
			return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("%d are left as they were: keep their key, set them again, or run this again if they changed meanwhile", r.Left)}
		}
		return nil
	})
}
