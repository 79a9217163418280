package app

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"fusillade/internal/config"
	"fusillade/internal/postgres"
	"fusillade/migrations"
	"fusillade/streams"
)

// Embed prepares what a daemon in another program works with: a database that it
// migrates, and a connection to NATS that stays the program's own.
func Embed(ctx context.Context, settings *config.Standalone, conn *nats.Conn, log *slog.Logger) (r Resources, err error) {
	r.Log, r.Conn = log, conn
	r.Streams = streams.Config{
		Replicas: settings.StreamReplicas, PlacementTags: settings.PlacementTags, Shards: streams.Shards(settings.StreamShards),
		StaleDaemonThreshold: settings.StaleDaemonThreshold.Duration(),
	}
	if err = migrations.Up(ctx, settings.Postgres.Direct()); err != nil {
		return r, err
	}
	r.Store, err = postgres.Open(ctx, postgres.Config{
		URL: settings.Postgres.URL.Reveal(), DirectURL: settings.Postgres.Direct(), MaxConns: settings.MaxConns, ApplicationName: "fusillade-embedded",
	})
	if err != nil {
		return r, err
	}
	if err = r.ensureStreams(ctx); err != nil {
		r.Store.Close()
		return r, fmt.Errorf("preparing the streams: %w", err)
	}
	return r, nil
}
