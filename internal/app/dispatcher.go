package app

import (
	"context"
	"errors"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/dispatch"
	"fusillade/internal/history"
	"fusillade/internal/postgres"
	"fusillade/internal/webhook"
	"fusillade/streams"
)

// Dispatch runs a dispatcher as a daemon until taking ends.
func Dispatch(taking, doing context.Context, r Resources, cfg *config.Dispatcher) error {
	return daemon.Run(taking, doing, daemonConfig(r, &cfg.Daemon, "dispatcher", cfg),
		r.Telemetry.observe(func(taking, _ context.Context, d *daemon.Daemon) error {
			own := r
			var err error
			if own.Store, err = leaveJobs(taking, r); err != nil {
				return ignoreStop(taking, err)
			}
			return dispatchUntil(taking, own, cfg, d)
		}))
}

func dispatchUntil(taking context.Context, r Resources, cfg *config.Dispatcher, owner *daemon.Daemon) error {
	webhooks, err := webhook.New(webhook.Config{
		Store: r.Store, Keyring: r.Keyring, AllowPrivate: cfg.AllowPrivate, Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
	if err != nil {
		return err
	}
	recorder := &history.Recorder{Store: r.Store, Log: r.Log}
	d, err := dispatch.New(taking, dispatch.Config{
		Store: r.Store, Conn: r.Conn, Daemon: owner.ID, Streams: r.Streams,
		ClaimBatchSize: cfg.ClaimBatchSize, ClaimInterval: cfg.ClaimInterval.Duration(),
		DefaultLimit: cfg.DefaultModelConcurrency, Limits: cfg.ModelConcurrencyLimits, Escalations: escalations(cfg.ModelEscalations),
		DefaultRate: cfg.DefaultModelRateLimit.RateLimit, Rates: cfg.ModelRateLimits,
		Lease: lease(&cfg.Daemon), MaxHold: cfg.MaxHold.Duration(), MaxProbe: cfg.MaxProbeInterval.Duration(), Background: []func(context.Context){webhooks.Run, listenForWork(r), recorder.Run}, ClaimTimeout: cfg.ClaimTimeout.Duration(),
		ProcessingTimeout: cfg.ProcessingTimeout.Duration(), StaleThreshold: cfg.StaleDaemonThreshold.Duration(),
		ExpiryInterval: cfg.CancellationPollInterval.Duration(), StopBeforeDeadline: cfg.StopBeforeDeadline.Pointer(),
		Purge: dispatch.Purge{Interval: cfg.PurgeInterval.Duration(), Rows: cfg.PurgeBatchSize, Pause: cfg.PurgeThrottle.Duration()},
		Watch: owner.Watchdog(), ModelIdle: cfg.ModelIdle.Duration(),
		ReclaimBatchSize: cfg.ReclaimBatchSize, MetadataFields: cfg.BatchMetadataFields, Tracer: r.Tracer, Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
	if err != nil {
		return ignoreStop(taking, err)
	}
	return d.Run(taking)
}

// listenForWork passes on what Postgres says of batches that other programs made in
// transactions of their own. While it cannot listen, dispatchers find them by their
// poll.
func listenForWork(r Resources) func(context.Context) {
	return func(ctx context.Context) {
		again := backoff.New(time.Second, 30*time.Second)
		for ctx.Err() == nil {
			err := r.Store.ListenForWork(ctx, func() {
				again.Reset()
				if err := r.Conn.Publish(streams.HintWork, nil); err != nil {
					r.Log.Debug("hint was not sent", "subject", streams.HintWork, "err", err)
				}
			})
			if ctx.Err() == nil {
				r.Log.Warn("listening for new batches goes on soon", "err", err)
			}
			if again.Wait(ctx) != nil {
				return
			}
		}
	}
}

func escalations(from config.ModelEscalations) map[batch.Model]batch.Escalation {
	to := make(map[batch.Model]batch.Escalation, len(from))
	for model, e := range from {
		to[model] = batch.Escalation(e)
	}
	return to
}

// lease is AckWait: a message of a dead consumer is redelivered when its
// daemon is taken for dead, neither sooner nor later.
func lease(cfg *config.Daemon) time.Duration { return cfg.StaleDaemonThreshold.Duration() }

func daemonConfig(r Resources, cfg *config.Daemon, role string, settings config.Settings) daemon.Config {
	return daemon.Config{
		Store: r.Store, Conn: r.Conn, Role: role, Snapshot: config.Snapshot(settings),
		Interval: cfg.HeartbeatInterval.Duration(), Threshold: cfg.StaleDaemonThreshold.Duration(),
		Prepare: r.ensureStreams, Metrics: r.Telemetry.metrics(), Log: r.Log,
	}
}

// ignoreStop returns nil for an error that only says that taking has ended.
func ignoreStop(taking context.Context, err error) error {
	if taking.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// leaveJobs returns the store without the unfinished jobs of `fusillade run`, for a
// cluster on the database that such a job was begun in: its endpoint is another one.
// No job comes while the cluster runs, since run wants the database for itself.
func leaveJobs(ctx context.Context, r Resources) (*postgres.Store, error) {
	jobs, err := r.Store.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	var unfinished []batch.ID
	for _, j := range jobs {
		if !j.Status.Terminal() {
			unfinished = append(unfinished, j.Batch)
		}
	}
	if len(unfinished) == 0 {
		return r.Store, nil
	}
	r.Log.Warn("unfinished jobs of fusillade run are in this database; they stay as they are, for fusillade run to go on with", "jobs", len(unfinished))
	return r.Store.Excluding(unfinished), nil
}
