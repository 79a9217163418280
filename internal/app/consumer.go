package app

import (
	"context"

	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/daemon"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/internal/upstream"
)

// Consume runs a consumer as a daemon until taking ends and its work is done.
// observe is given each consumer that begins; nil: nobody watches.
func Consume(taking, doing context.Context, r Resources, cfg *config.Consumer, observe func(*consume.Consumer)) error {
	return daemon.Run(taking, doing, daemonConfig(r, &cfg.Daemon, "consumer", cfg),
		r.Telemetry.observe(func(taking, doing context.Context, d *daemon.Daemon) error {
			return consumeUntil(taking, doing, r, cfg, observe, d)
		}))
}

func consumeUntil(taking, doing context.Context, r Resources, cfg *config.Consumer, observe func(*consume.Consumer), d *daemon.Daemon) error {
	trust, err := cfg.TLS()
	if err != nil {
		return err
	}
	shouldRetry := r.ShouldRetry
	if shouldRetry == nil {
		shouldRetry = func(r upstream.Response) bool { return cfg.ShouldRetry.Contains(r.StatusCode) }
	}
	client, err := upstream.New(upstream.Config{
		Timeout: cfg.Timeout.Duration(), FirstTokenTimeout: cfg.FirstTokenTimeout.Duration(),
		StallTimeout: cfg.StallTimeout.Duration(), StreamTimeout: cfg.StreamedTimeout.Duration(), MaxIdleConnsPerHost: cfg.MaxInFlight, Proxy: cfg.Upstream.Proxy.For(),
		ShouldRetry: shouldRetry, Transport: r.Transport,
		TLS: trust, NoHTTP2: !cfg.HTTP2, Log: r.Log,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	defer telemetry.Attach(r.Telemetry.metrics(), replicas{client})()
	endpoints, stopResolver, err := startResolver(taking, r, &cfg.Upstream)
	if err != nil {
		return ignoreStop(taking, err)
	}
	defer stopResolver()
	results, err := newCallbacks(r, cfg, d)
	if err != nil {
		return err
	}
	c, err := consume.New(taking, consume.Config{
		Store: results.store, Caller: client, Conn: r.Conn, Shards: r.Streams.Shards, Daemon: d.ID,
		Resolve: endpoints.Resolve, BatchKey: endpoints.BatchKey,
		Rates: consume.RateLimits{Endpoints: cfg.EndpointRateLimits, OwnKeys: cfg.OwnKeyRateLimit.RateLimit},
		Retry: cfg.RetryPolicy(), MaxStreamBackoff: cfg.MaxStreamBackoff.Duration(), MaxHold: cfg.MaxHold.Duration(), Lease: lease(&cfg.Daemon),
		HoldAfter: cfg.HoldAfterRefusals, Probe: cfg.ProbeInterval.Duration(), MaxProbe: cfg.MaxProbeInterval.Duration(),
		ProcessingTimeout: cfg.ProcessingTimeout.Duration(),
		StaleThreshold:    cfg.StaleDaemonThreshold.Duration(),
		HeartbeatInterval: cfg.HeartbeatInterval.Duration(), DrainTimeout: cfg.DrainTimeout.Duration(),
		Lapsed: d.Lapsed, Watch: d.Watchdog(), CancelPoll: cfg.CancellationPollInterval.Duration(), MaxInFlight: cfg.MaxInFlight, MaxTakeovers: cfg.MaxTakeovers,
		StatusInterval: cfg.StatusLogInterval.OrZero(), Tracer: r.Tracer, Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
	if err != nil {
		return ignoreStop(taking, err)
	}
	if observe != nil {
		observe(c)
	}
	d.SetProgress(func() postgres.Progress {
		s := c.Stats()
		return postgres.Progress{Completed: s.Completed, Failed: s.Failed, InFlight: s.InFlight}
	})
	defer results.run(taking, c)()
	defer holdGCFloor()()
	return c.Run(taking, doing)
}
