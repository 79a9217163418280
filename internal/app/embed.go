package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"fusillade/internal/config"
	"fusillade/internal/postgres"
	"fusillade/migrations"
)

// Embed prepares what a daemon in another program works with: a database that it
// migrates, by its URL or a pool of the program's, and a connection to NATS that
// stays the program's own.
func Embed(ctx context.Context, settings *config.Standalone, pool *pgxpool.Pool, conn *nats.Conn, log *slog.Logger) (r Resources, err error) {
	r.Log, r.Conn = log, conn
	r.Streams = streamsConfig(settings.NATS)
	r.Streams.StaleDaemonThreshold = settings.StaleDaemonThreshold.Duration()
	if r.Store, err = openEmbedded(ctx, settings.Postgres, pool); err != nil {
		return r, err
	}
	if err = r.ensureStreams(ctx); err != nil {
		r.Store.Close()
		return r, fmt.Errorf("preparing the streams: %w", err)
	}
	return r, nil
}

func openEmbedded(ctx context.Context, p config.Postgres, pool *pgxpool.Pool) (*postgres.Store, error) {
	if pool == nil || p.DirectURL.IsSet() {
		if err := migrations.Up(ctx, p.Direct()); err != nil {
			return nil, err
		}
	}
	if pool == nil {
		return openStore(ctx, p, "embedded")
	}
	if !p.DirectURL.IsSet() {
		cfg := pool.Config()
		if cfg.BeforeConnect != nil {
			if err := cfg.BeforeConnect(ctx, cfg.ConnConfig); err != nil {
				return nil, fmt.Errorf("connecting to the database: %w", err)
			}
		}
		if err := migrations.UpConn(ctx, cfg.ConnConfig); err != nil {
			return nil, err
		}
	}
	return postgres.Open(ctx, postgres.Config{Pool: pool, DirectURL: p.DirectURL.Reveal(), ApplicationName: "fusillade-embedded"})
}
