// Package daemon gives a process its identity in the cluster: a record in
// Postgres, a heartbeat there and in the KV bucket, and a fence that stops its
// work before others may take it for dead.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/watchdog"
	"fusillade/streams"
)

// Version is that of the program, set when it is built.
var Version = "dev"

// ErrFenced is returned when the daemon could not renew its heartbeat in time and
// has stopped its work, because others may soon do it.
var ErrFenced = errors.New("heartbeat could not be renewed in time")

// Config says who a daemon is.
type Config struct {
	Store    *postgres.Store
	Conn     *nats.Conn
	Role     string            // dispatcher, consumer or standalone
	Snapshot map[string]string // configuration without secrets
	// Prepare makes sure of the streams and buckets, before each start of a daemon:
	// they may have vanished since. Nil: they are there, or the daemon ends.
	Prepare  func(context.Context) error
	Interval time.Duration // between heartbeats
	// Threshold is the age at which a heartbeat is stale. The daemon fences
	// itself one interval before.
	Threshold time.Duration
	// StuckAfter is how long a step of one of its loops may take before the
	// daemon takes itself for stuck; 0: two thresholds and half a minute.
	StuckAfter time.Duration
	// Metrics is where metrics are registered; nil: nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Daemon is one run of one process.
type Daemon struct {
	ID       batch.DaemonID
	cfg      Config
	beats    jetstream.KeyValue
	progress atomic.Pointer[func() postgres.Progress]
	metrics  *metrics
	stopping atomic.Bool
	born     time.Time
	renewed  atomic.Int64 // when the last heartbeat that succeeded began, in nanoseconds since born
	watchdog *watchdog.Watchdog
}

// Work is what a daemon does: until taking ends it takes work, until doing
// ends it may finish it.
type Work func(taking, doing context.Context, d *Daemon) error

// Run registers a daemon, keeps its heartbeats and does its work. When the
// heartbeats fail for too long it ends the work and starts over as a new
// daemon, so an outage of Postgres or NATS is survived. It returns when the
// work does, with ErrAbandoned when the work is stuck and does not end, so that
// the process must, and with an error when it cannot begin. Where it is told to
// stop, neither a stop while it begins nor work that was cut off for want of a
// heartbeat is an error: others do that work again.
func Run(taking, doing context.Context, cfg Config, work Work) error {
	d, err := start(taking, cfg)
	if err != nil && taking.Err() != nil {
		return nil
	}
	if err != nil && cfg.Prepare != nil {
		cfg.Log.Warn("the daemon could not start", "err", err)
		d, err = restart(taking, cfg)
	}
	for err == nil && d != nil {
		err = d.run(taking, doing, work)
		switch stopped := taking.Err() != nil; {
		case errors.Is(err, ErrAbandoned):
			return err
		case errors.Is(err, ErrFenced) && stopped:
			cfg.Log.Error("work was cut off while the daemon stopped; others do it again", "err", err)
			return nil
		case stopped, !errors.Is(err, ErrFenced) && !errors.Is(err, ErrStuck) && (cfg.Prepare == nil || !passes(err)):
			return err
		}
		cfg.Log.Error("work was stopped and begins again as a new daemon", "err", err)
		d, err = restart(taking, cfg)
	}
	return err
}

// passes reports whether work failed for want of Postgres or NATS, or of a stream
// or bucket that has vanished.
func passes(err error) bool {
	for _, cause := range []error{
		jetstream.ErrStreamNotFound, jetstream.ErrBucketNotFound, jetstream.ErrConsumerNotFound, jetstream.ErrNoStreamResponse,
		jetstream.ErrJetStreamNotEnabled, nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected, context.DeadlineExceeded,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return postgres.Transient(err)
}

// restart starts a new daemon as soon as Postgres and NATS let it; nil if
// taking ends before. Where nothing prepares it, a bucket that is gone does not
// come back by waiting: that is returned as an error.
func restart(taking context.Context, cfg Config) (*Daemon, error) {
	for pause := backoff.New(cfg.Interval/2, cfg.Interval); ; {
		if pause.Wait(taking) != nil {
			return nil, nil
		}
		d, err := start(taking, cfg)
		if err == nil || cfg.Prepare == nil && errors.Is(err, jetstream.ErrBucketNotFound) {
			return d, err
		}
		if taking.Err() == nil {
			cfg.Log.Warn("the daemon could not start again", "err", err)
		}
	}
}

func (d *Daemon) run(taking, doing context.Context, work Work) error {
	cfg := d.cfg
	cfg.Log.Info("daemon is running", "daemon_id", d.ID, "role", cfg.Role)
	taking, stopTaking := context.WithCancel(taking)
	defer stopTaking()
	doing, stopDoing := context.WithCancelCause(doing)
	defer stopDoing(nil)
	// Heartbeats continue while the work drains.
	beating, stopBeating := context.WithCancel(context.WithoutCancel(doing))
	fenced := make(chan error, 1)
	go func() {
		err := d.beat(beating, taking.Done())
		if err != nil { // fenced: take no more, and stop at once
			stopTaking()
			stopDoing(err)
		}
		fenced <- err
	}()
	done := make(chan error, 1)
	go func() { done <- work(taking, doing, d) }()
	defer stopBeating()
	select {
	case err := <-fenced:
		if errors.Is(err, ErrStuck) {
			return d.awaitStuck(err, done)
		}
		return errors.Join(err, <-done)
	case workErr := <-done:
		stopBeating()
		if err := <-fenced; err != nil {
			return errors.Join(err, workErr)
		}
		d.end(doing)
		return workErr
	}
}

// Lapsed reports whether the last heartbeat is so old that the daemon must have
// fenced itself. A process that was frozen, and wakes after others took its
// work over, learns it here before its next heartbeat can tell it.
func (d *Daemon) Lapsed() bool {
	return time.Since(d.born)-time.Duration(d.renewed.Load()) >= d.cfg.Threshold-d.cfg.Interval
}

// SetProgress says how to learn what the daemon has done, for its record.
func (d *Daemon) SetProgress(f func() postgres.Progress) { d.progress.Store(&f) }

func start(ctx context.Context, cfg Config) (*Daemon, error) {
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("starting daemon: %w", err)
	}
	d := &Daemon{ID: postgres.NewDaemonID(), cfg: cfg, metrics: newMetrics(cfg.Metrics), watchdog: watchdog.New(cfg.stuckAfter()), born: time.Now()}
	bind, cancel := context.WithTimeout(ctx, cfg.Threshold)
	defer cancel()
	if cfg.Prepare != nil {
		if err := cfg.Prepare(bind); err != nil {
			return nil, fmt.Errorf("starting daemon: %w", err)
		}
	}
	if d.beats, err = js.KeyValue(bind, streams.DaemonsBucket); err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.DaemonsBucket, err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	err = cfg.Store.RegisterDaemon(bind, postgres.Daemon{
		ID: d.ID, Role: cfg.Role, Hostname: hostname, PID: os.Getpid(), Version: Version, Config: cfg.Snapshot,
	})
	if err != nil {
		return nil, err
	}
	if err := d.renew(bind, hostname, cfg.Threshold); err != nil {
		return nil, err
	}
	return d, nil
}

// beat renews the heartbeats until ctx ends, and at once when the daemon begins
// to stop. It returns ErrFenced when one of them could not be renewed until one
// interval before the threshold, and ErrStuck when the work makes no progress:
// a timer that ticks is no sign of progress.
func (d *Daemon) beat(ctx context.Context, stopping <-chan struct{}) error {
	hostname, _ := os.Hostname()
	last := time.Now()
	fence := d.cfg.Threshold - d.cfg.Interval
	wait := d.cfg.Interval
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stopping:
			d.stopping.Store(true)
			stopping = nil
		case <-time.After(wait):
		}
		if err := d.watch(ctx); err != nil {
			return err
		}
		began := time.Now()
		try, cancel := context.WithDeadline(ctx, last.Add(fence))
		err := d.renew(try, hostname, d.cfg.Interval)
		cancel()
		d.metrics.renewed(ctx, began, err)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			last, wait = began, d.cfg.Interval
			d.renewed.Store(int64(began.Sub(d.born)))
			continue
		case errors.Is(err, batch.ErrDaemonDead) || time.Since(last) >= fence:
			return fmt.Errorf("%w: %w", ErrFenced, err)
		}
		d.cfg.Log.Warn("heartbeat failed", "err", err)
		wait = min(d.cfg.Interval/4, time.Until(last.Add(fence)))
	}
}

// renew writes both heartbeats, that of the bucket within the limit. A crash
// between the two is harmless: each expires by itself.
func (d *Daemon) renew(ctx context.Context, hostname string, limit time.Duration) error {
	p := d.done()
	if err := d.cfg.Store.Heartbeat(ctx, d.ID, p); err != nil {
		return err
	}
	failpoint.Hit(failpoint.Beaten)
	value, err := json.Marshal(map[string]any{
		"role": d.cfg.Role, "hostname": hostname, "pid": os.Getpid(), "version": Version, "in_flight": p.InFlight,
		"stopping": p.Stopping,
	})
	if err != nil {
		return fmt.Errorf("writing heartbeat: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if _, err := d.beats.Put(ctx, d.ID.String(), value); err != nil {
		return fmt.Errorf("writing heartbeat to bucket %s: %w", streams.DaemonsBucket, err)
	}
	return nil
}

// done is what the daemon has done, for its record.
func (d *Daemon) done() (p postgres.Progress) {
	if f := d.progress.Load(); f != nil {
		p = (*f)()
	}
	p.Stopping = d.stopping.Load()
	return p
}

// end says that the daemon is gone, so that others need not wait for its
// heartbeat to go stale.
func (d *Daemon) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := d.cfg.Store.Heartbeat(ctx, d.ID, d.done()); err != nil { // what it did since the last
		d.cfg.Log.Warn("the last progress of the daemon could not be recorded", "err", err)
	}
	if err := d.cfg.Store.EndDaemon(ctx, d.ID); err != nil {
		d.cfg.Log.Warn("the daemon could not be recorded as ended", "err", err)
	}
	if err := d.cfg.Conn.Publish(streams.HintWork, nil); err != nil {
		d.cfg.Log.Debug("hint was not sent", "subject", streams.HintWork, "err", err)
	}
	if err := d.beats.Delete(ctx, d.ID.String()); err != nil {
		d.cfg.Log.Warn("the heartbeat could not be removed from the bucket", "err", err)
	}
	d.cfg.Log.Info("daemon has ended", "daemon_id", d.ID)
}
