package app

import (
	"context"
	"sync"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/resolver"
	"fusillade/internal/upstream"
)

// These are how long to wait, at first and at most, before the database
// is asked again that did not answer.
const minResolverPause, maxResolverPause = 500 * time.Millisecond, 2 * time.Second

// startResolver reads where calls go, as soon as the database answers, and
// follows changes until it is stopped. It returns an error when taking ends
// before.
func startResolver(taking context.Context, r Resources, cfg *config.Upstream) (endpoints *resolver.Resolver, stop func(), err error) {
	endpoints, err = resolver.New(resolver.Config{
		Store: r.Store, Conn: r.Conn, Keyring: r.Keyring, Log: r.Log,
		Default: targets(cfg),
	})
	if err != nil {
		return nil, nil, err
	}
	// A database that has just gone away comes back. Without having read it,
	// calls could go where they should not.
	pause := backoff.New(minResolverPause, maxResolverPause)
	for err := endpoints.Load(taking); err != nil; err = endpoints.Load(taking) {
		if taking.Err() == nil {
			r.Log.Warn("reading upstreams; no call is made before", "err", err)
		}
		if pause.Wait(taking) != nil {
			return nil, nil, taking.Err()
		}
	}
	// Calls go on after taking has ended.
	ctx, cancel := context.WithCancel(context.WithoutCancel(taking))
	var running sync.WaitGroup
	running.Go(func() { endpoints.Run(ctx) })
	return endpoints, func() {
		cancel()
		running.Wait()
	}, nil
}

// targets returns where the environment has a model's calls go. It is asked for
// each call, so everything is looked up here.
func targets(cfg *config.Upstream) func(batch.Model) upstream.Target {
	of := func(m batch.Model) upstream.Target {
		return upstream.Target{BaseURL: cfg.For(m), APIKey: cfg.KeyFor(m), Options: cfg.OptionsFor(m)}
	}
	own := make(map[batch.Model]upstream.Target, len(cfg.Models))
	for m := range cfg.Models {
		own[m] = of(m)
	}
	other := of("")
	return func(m batch.Model) upstream.Target {
		if to, ok := own[m]; ok {
			return to
		}
		return other
	}
}
