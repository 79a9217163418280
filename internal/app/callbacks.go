package app

import (
	"context"
	"sync"

	"fusillade/internal/batch"
	"fusillade/internal/callback"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/daemon"
	"fusillade/internal/postgres"
)

// callbacks are those of a consumer's program, if it has any.
type callbacks struct {
	// store is where the consumer works.
	store  consumerStore
	caller *callback.Caller // nil: there are none
}

// consumerStore is the database, of which results may go another way.
type consumerStore struct {
	*postgres.Store
	caller *callback.Caller
}

// Finish implements the consumer's store.
func (s consumerStore) Finish(ctx context.Context, daemon batch.DaemonID, completions []postgres.Completion, releases []postgres.Release) (map[batch.RequestID]bool, error) {
	if s.caller == nil || len(completions) == 0 {
		return s.Store.Finish(ctx, daemon, completions, releases)
	}
	return s.caller.Finish(ctx, daemon, completions, releases)
}

func newCallbacks(r Resources, cfg *config.Consumer, d *daemon.Daemon) (callbacks, error) {
	if !r.Callbacks.Any() {
		return callbacks{store: consumerStore{Store: r.Store}}, nil
	}
	caller, err := callback.New(callback.Config{
		Program: r.Callbacks, Store: r.Store, Daemon: d.ID, StaleThreshold: cfg.StaleDaemonThreshold.Duration(),
		DrainTimeout: cfg.DrainTimeout.Duration(), Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
	return callbacks{store: consumerStore{r.Store, caller}, caller: caller}, err
}

// run makes calls until the consumer has ended and stop is called.
func (c callbacks) run(ctx context.Context, consumer *consume.Consumer) (stop func()) {
	if c.caller == nil {
		return func() {}
	}
	c.caller.SetGate(consumer)
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { c.caller.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}
