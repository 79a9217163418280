package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"fusillade/internal/app"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/embedded"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

const databaseHelp = "The data directory of fusillade run and serve, which may be running there. Not used where FUSILLADE_DATABASE_URL is set. Default: a directory for your user."

// databaseFlags are those of commands that work in the database of a cluster,
// which the environment names, or in that of a data directory.
type databaseFlags struct {
	DataDir string `placeholder:"DIR" help:"${data_dir_help}"`
}

// access says how a command opens a data directory.
type access struct {
	shared bool // beside other processes that work in it
	make   bool // if there is none
}

// with opens the database, beside other processes that work in it.
func (f *databaseFlags) with(ctx context.Context, t *cli.Terminal, do func(*postgres.Store) error) error {
	return f.open(ctx, t, access{shared: true}, do)
}

// making is with for a command that comes before all others: it makes a data directory
// where there is none.
func (f *databaseFlags) making(ctx context.Context, t *cli.Terminal, do func(*postgres.Store) error) error {
	return f.open(ctx, t, access{shared: true, make: true}, do)
}

// alone opens the database, and no other process may have the data directory.
func (f *databaseFlags) alone(ctx context.Context, t *cli.Terminal, do func(*postgres.Store) error) error {
	return f.open(ctx, t, access{}, do)
}

func (f *databaseFlags) open(ctx context.Context, t *cli.Terminal, as access, do func(*postgres.Store) error) error {
	cfg, err := loadSettings()
	if err != nil {
		return err
	}
	if cfg.Postgres.URL.IsSet() {
		s, err := postgres.Open(ctx, postgres.Config{URL: cfg.Postgres.URL.Reveal(), DirectURL: cfg.Postgres.Direct(), MaxConns: 2, ApplicationName: "fusillade-cli"})
		if err != nil {
			return err
		}
		defer s.Close()
		return do(s)
	}
	dir, err := dataDir(f.DataDir, false)
	if err != nil {
		return cli.Usage(err)
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !as.make {
		return cli.Usage(fmt.Errorf("there is no data directory %s: name that of fusillade run or serve by --data-dir, or a cluster's database by FUSILLADE_DATABASE_URL", dir))
	}
	started := t.Waiting("starting Postgres in %s", dir)
	local, err := app.StartLocal(ctx, app.LocalConfig{
		DataDir: dir, Settings: cfg, Log: slog.New(slog.DiscardHandler),
	})
	started()
	if as.shared && errors.Is(err, embedded.ErrInUse) {
		s, err := app.OpenRunning(ctx, dir)
		if err != nil {
			return err
		}
		defer s.Close()
		return do(s)
	}
	if err != nil {
		return cli.Usage(err)
	}
	return errors.Join(do(local.Store), local.Stop())
}

// connectCluster opens what commands on a cluster need, from the environment.
func connectCluster(ctx context.Context) (app.Resources, error) {
	cfg := new(config.Dispatcher)
	if err := config.Load(cfg); err != nil {
		return app.Resources{}, cli.Usage(err)
	}
	return app.Open(ctx, "cli", &cfg.Process, slog.New(slog.DiscardHandler))
}

// openKeyring returns the keyring of the environment; nil: it has no key.
func openKeyring() (*seal.Keyring, error) {
	cfg, err := loadSettings()
	if err != nil {
		return nil, err
	}
	return seal.New(cfg.Encryption.Key.All()...)
}
