package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"fusillade/internal/config"
	"fusillade/migrations"
)

// Embed prepares what a daemon in another program works with: a database that it
// migrates, and a connection to NATS that stays the program's own.
func Embed(ctx context.Context, settings *config.Standalone, conn *nats.Conn, log *slog.Logger) (r Resources, err error) {
	r.Log, r.Conn = log, conn
	r.Streams = streamsConfig(settings.NATS)
	r.Streams.StaleDaemonThreshold = settings.StaleDaemonThreshold.Duration()
	if err = migrations.Up(ctx, settings.Postgres.Direct()); err != nil {
		return r, err
	}
	r.Store, err = openStore(ctx, settings.Postgres, "embedded")
	if err != nil {
		return r, err
	}
	if err = r.ensureStreams(ctx); err != nil {
		r.Store.Close()
		return r, fmt.Errorf("preparing the streams: %w", err)
	}
	return r, nil
}
