package app

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/daemon"
	"fusillade/internal/dispatch"
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
)

// ConsumerOptions is what a consumer needs to know.
type ConsumerOptions struct {
	config.Consumer
	// ShouldRetry tells which answers are worth another attempt; nil: those of
	// the Daemon's ShouldRetry. A program that embeds the pipeline may judge
	// answers by more than their status.
	ShouldRetry func(upstream.Response) bool
	// Observe is given each consumer that begins; nil: nobody watches.
	Observe func(*consume.Consumer)
}

// DispatcherOptions is what a dispatcher needs to know.
type DispatcherOptions struct {
	config.Dispatcher
}

// StandaloneOptions is what a dispatcher and a consumer in one daemon need to
// know.
type StandaloneOptions struct {
	config.Standalone
	// Observe is given each consumer that begins; nil: nobody watches.
	Observe func(*consume.Consumer)
}

// Dispatch runs a dispatcher as a daemon until taking ends.
func Dispatch(taking, doing context.Context, r Resources, cfg DispatcherOptions, snapshot map[string]string) error {
	return daemon.Run(taking, doing, daemonConfig(r, cfg.Daemon, "dispatcher", snapshot),
		r.Telemetry.observe(func(taking, _ context.Context, d *daemon.Daemon) error { return dispatchUntil(taking, r, cfg, d) }))
}

// Consume runs a consumer as a daemon until taking ends and its work is done.
func Consume(taking, doing context.Context, r Resources, cfg ConsumerOptions, snapshot map[string]string) error {
	return daemon.Run(taking, doing, daemonConfig(r, cfg.Daemon, "consumer", snapshot),
		r.Telemetry.observe(func(taking, doing context.Context, d *daemon.Daemon) error {
			return consumeUntil(taking, doing, r, cfg, d)
		}))
}

// Standalone runs a dispatcher and a consumer as one daemon.
func Standalone(taking, doing context.Context, r Resources, cfg StandaloneOptions, snapshot map[string]string) error {
	return daemon.Run(taking, doing, daemonConfig(r, cfg.Daemon, "standalone", snapshot),
		r.Telemetry.observe(func(taking, doing context.Context, d *daemon.Daemon) error {
			g, taking := errgroup.WithContext(taking)
			dispatching := DispatcherOptions{Dispatcher: cfg.Dispatcher()}
			consuming := ConsumerOptions{Consumer: cfg.Consumer(), Observe: cfg.Observe}
			g.Go(func() error { return dispatchUntil(taking, r, dispatching, d) })
			g.Go(func() error { return consumeUntil(taking, doing, r, consuming, d) })
			return g.Wait()
		}))
}

func dispatchUntil(taking context.Context, r Resources, cfg DispatcherOptions, owner *daemon.Daemon) error {
	sender, err := newSender(r, cfg.Encryption, cfg.Webhooks)
	if err != nil {
		return err
	}
	d, err := dispatch.New(taking, dispatch.Config{
		Store: r.Store, Conn: r.Conn, Streams: r.Streams,
		ClaimBatchSize: cfg.ClaimBatchSize, ClaimInterval: cfg.ClaimInterval.Duration(),
		DefaultLimit: cfg.DefaultModelConcurrency, Limits: cfg.ModelConcurrencyLimits, Escalations: escalations(cfg.ModelEscalations),
		Lease: lease(cfg.Daemon), Background: []func(context.Context){sender.Run}, ClaimTimeout: cfg.ClaimTimeout.Duration(),
		ProcessingTimeout: cfg.ProcessingTimeout.Duration(), StaleThreshold: cfg.StaleDaemonThreshold.Duration(),
		ExpiryInterval: cfg.CancellationPollInterval.Duration(), StopBeforeDeadline: cfg.StopBeforeDeadline.Pointer(),
		Purge:            dispatch.Purge{Interval: cfg.PurgeInterval.Duration(), Rows: cfg.PurgeBatchSize, Pause: cfg.PurgeThrottle.Duration()},
		Watch:            owner.Watchdog(),
		UnclaimBatchSize: cfg.UnclaimBatchSize, MetadataFields: cfg.BatchMetadataFields, Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
	if err != nil {
		return ignoreStop(taking, err)
	}
	return d.Run(taking)
}

// gcFloor is memory that is allocated and never touched, so it costs address
// space and nothing else. The collector waits until the heap has doubled, and
// a consumer's live heap is a few megabytes: without a floor it would run many
// times a second. (Measured: a fifth of a consumer's CPU time.) A setting of
// GOGC would multiply a large heap too; this does not.
const gcFloor = 64 << 20

func consumeUntil(taking, doing context.Context, r Resources, cfg ConsumerOptions, d *daemon.Daemon) error {
	shouldRetry := cfg.ShouldRetry
	if shouldRetry == nil {
		byStatus, err := upstream.ParseStatusSet(cfg.Daemon.ShouldRetry)
		if err != nil {
			return err
		}
		shouldRetry = func(r upstream.Response) bool { return byStatus(r.StatusCode) }
	}
	client, err := upstream.New(upstream.Config{
		Timeout: cfg.Timeout.Duration(), MaxIdleConnsPerHost: cfg.MaxInFlight, ShouldRetry: shouldRetry,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	book, closeBook, err := openBook(taking, r, cfg)
	if err != nil {
		return ignoreStop(taking, err)
	}
	defer closeBook()
	c, err := consume.New(taking, consume.Config{
		Store: r.Store, Caller: client, Conn: r.Conn, Daemon: d.ID,
		Upstream: book.Resolve, BatchKey: book.BatchKey,
		Retry: cfg.RetryPolicy(), Lease: lease(cfg.Daemon),
		ProcessingTimeout: cfg.ProcessingTimeout.Duration(), CallTimeout: cfg.Timeout.Duration(),
		StaleThreshold:    cfg.StaleDaemonThreshold.Duration(),
		HeartbeatInterval: cfg.HeartbeatInterval.Duration(), DrainTimeout: cfg.DrainTimeout.Duration(),
		Lapsed: d.Lapsed, Watch: d.Watchdog(), CancelPoll: cfg.CancellationPollInterval.Duration(), MaxInFlight: cfg.MaxInFlight, MaxDeliveries: cfg.MaxDeliveries,
		StatusInterval: statusInterval(cfg.Daemon), Metrics: r.Telemetry.metrics(), Log: r.Log,
	})
	if err != nil {
		return ignoreStop(taking, err)
	}
	if cfg.Observe != nil {
		cfg.Observe(c)
	}
	d.SetProgress(func() postgres.Progress {
		s := c.Stats()
		return postgres.Progress{Completed: s.Completed, Failed: s.Failed, InFlight: s.InFlight}
	})
	floor := make([]byte, gcFloor)
	defer runtime.KeepAlive(&floor)
	return c.Run(taking, doing)
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
func lease(cfg config.Daemon) time.Duration { return cfg.StaleDaemonThreshold.Duration() }

// statusInterval is 0 for a status log that is off.
func statusInterval(cfg config.Daemon) time.Duration {
	if interval := cfg.StatusLogInterval.Pointer(); interval != nil {
		return *interval
	}
	return 0
}

func daemonConfig(r Resources, cfg config.Daemon, role string, snapshot map[string]string) daemon.Config {
	return daemon.Config{
		Store: r.Store, Conn: r.Conn, Role: role, Snapshot: snapshot,
		Interval: cfg.HeartbeatInterval.Duration(), Threshold: cfg.StaleDaemonThreshold.Duration(),
		Metrics: r.Telemetry.metrics(), Log: r.Log,
	}
}

// ignoreStop: what a stop interrupted did not fail.
func ignoreStop(taking context.Context, err error) error {
	if taking.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
