package main

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/cli"
	"fusillade/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Apply the migrations that are missing."`
	Down   migrateDownCmd   `cmd:"" help:"Undo the newest migration, with all data that it holds."`
	Status migrateStatusCmd `cmd:"" help:"List the migrations."`
}

type (
	migrateUpCmd   struct{}
	migrateDownCmd struct {
		Yes bool `help:"Do it: tables are dropped."`
	}
	migrateStatusCmd struct{}
)

// databaseURL reads the one setting that these commands need.
func databaseURL() (string, error) {
	cfg, err := loadSettings()
	if err != nil {
		return "", err
	}
	if !cfg.Postgres.URL.IsSet() {
		return "", cli.Usage(fmt.Errorf("FUSILLADE_DATABASE_URL is required: the database to work on"))
	}
	return cfg.Postgres.Direct(), nil
}

func (migrateUpCmd) Run(ctx context.Context, t *cli.Terminal) error {
	url, err := databaseURL()
	if err != nil {
		return err
	}
	if err := migrations.Up(ctx, url); err != nil {
		return err
	}
	t.Notef("the database is up to date")
	return nil
}

func (c migrateDownCmd) Run(ctx context.Context, t *cli.Terminal) error {
	url, err := databaseURL()
	if err != nil {
		return err
	}
	if !c.Yes {
		return cli.Usage(fmt.Errorf("this drops tables and what they hold; add --yes to do it"))
	}
	if err := migrations.Down(ctx, url); err != nil {
		return err
	}
	t.Notef("the newest migration was undone")
	return nil
}

func (migrateStatusCmd) Run(ctx context.Context, t *cli.Terminal) error {
	url, err := databaseURL()
	if err != nil {
		return err
	}
	list, err := migrations.List(ctx, url)
	if err != nil {
		return err
	}
	w := cli.NewTable(t.Out, "VERSION NAME APPLIED")
	for _, m := range list {
		applied := "no"
		if !m.AppliedAt.IsZero() {
			applied = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", m.Version, m.Name, applied)
	}
	return w.Flush()
}
