package main

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"

	"fusillade/internal/app"
	"fusillade/internal/config"
	"fusillade/streams"
)

// connectCluster opens what commands on a cluster need, from the environment.
func connectCluster(ctx context.Context) (app.Resources, error) {
	cfg := new(config.Dispatcher)
	if err := config.Load(cfg); err != nil {
		return app.Resources{}, usage(err)
	}
	return app.Connect(ctx, "cli", &cfg.Process, &cfg.Daemon, slog.New(slog.DiscardHandler))
}

// hintWork wakes the dispatchers. A hint that is lost costs one claim interval.
func hintWork(conn *nats.Conn) {
	if conn.Publish(streams.HintWork, nil) == nil {
		_ = conn.FlushTimeout(dialTimeout)
	}
}
