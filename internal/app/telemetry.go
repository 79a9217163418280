package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/health"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

// Telemetry is what the admin server shows of a process: its metrics, and the
// daemon at work in it. A nil one shows nothing.
type Telemetry struct {
	registry *prometheus.Registry
	waiting  atomic.Pointer[string]         // what the process waits for as it starts
	ready    atomic.Pointer[Resources]      // nil: it waits
	daemon   atomic.Pointer[observedDaemon] // nil: none is registered
}

// observedDaemon is a daemon from its registration to the end of its work.
type observedDaemon struct {
	taking context.Context
	alive  func() error
}

// ServeAdmin serves health and metrics at its address, or nothing if that is empty. From
// the end of taking on the process is not ready; nor is it while no daemon
// runs, unless it is of a kind that runs none. Daemons that run with these
// resources afterwards are shown. The caller must call stop, before it closes
// the resources.
func (r *Resources) ServeAdmin(taking context.Context, admin config.Admin, runsDaemon bool) (stop func(), err error) {
	observed, addr, stop, err := serveAdmin(taking, admin, runsDaemon, r.Log)
	if err == nil {
		r.shownBy(observed, addr)
	}
	return stop, err
}

// shownBy has the admin server show a process that has what it needs.
func (r *Resources) shownBy(observed *Telemetry, addr string) {
	r.Telemetry, r.AdminAddr = observed, addr
	if observed != nil {
		shown := *r
		observed.ready.Store(&shown)
	}
}

// serveAdmin is ServeAdmin for a process that has nothing yet to be ready with. It
// returns no Telemetry where there is no address.
func serveAdmin(taking context.Context, admin config.Admin, runsDaemon bool, log *slog.Logger) (observed *Telemetry, addr string, stop func(), err error) {
	if admin.Addr == "" {
		return nil, "", func() {}, nil
	}
	observed = &Telemetry{registry: health.NewRegistry(daemon.Version)}
	server, err := health.New(taking, health.Config{
		Addr: string(admin.Addr), Alive: observed.alive, Ready: observed.checks(taking, runsDaemon),
		Metrics: telemetry.WithFormerNames(observed.registry), Profiles: admin.Pprof, Log: log,
	})
	if err != nil {
		return nil, "", nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(taking))
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			log.Error("admin server", "err", err)
		}
	})
	return observed, server.Addr().String(), func() {
		cancel()
		running.Wait()
	}, nil
}

// checks are what must hold for the process to be ready. While it starts, only
// what it waits for is told.
func (o *Telemetry) checks(taking context.Context, runsDaemon bool) []health.Check {
	return []health.Check{
		{Name: "stop", Do: func(context.Context) error {
			if taking.Err() != nil {
				return errors.New("stopping")
			}
			return nil
		}},
		{Name: "start", Do: func(context.Context) error {
			if what := o.waiting.Load(); o.ready.Load() == nil && what != nil && *what != "" {
				return errors.New(*what)
			}
			if o.ready.Load() == nil {
				return errors.New("connecting")
			}
			return nil
		}},
		{Name: "daemon", Do: o.whenReady(func(context.Context, *Resources) error {
			if runsDaemon {
				return o.working()
			}
			return nil
		})},
		{Name: "nats", Do: o.whenReady(func(_ context.Context, r *Resources) error {
			if status := r.Conn.Status(); !r.Conn.IsConnected() {
				return fmt.Errorf("the connection is %s", status)
			}
			return nil
		})},
		{Name: "postgres", Do: o.whenReady(func(ctx context.Context, r *Resources) error {
			if err := r.Store.Ping(ctx); err != nil {
				r.Log.Debug("not ready", "err", err)
				if errors.Is(err, postgres.ErrReadOnly) {
					return postgres.ErrReadOnly
				}
				return errors.New("no answer") // the cause may name hosts and users
			}
			return nil
		})},
	}
}

func (o *Telemetry) whenReady(check func(context.Context, *Resources) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if r := o.ready.Load(); r != nil {
			return check(ctx, r)
		}
		return nil
	}
}

// waitsFor notes what a process waits for as it starts.
func (o *Telemetry) waitsFor(what string) {
	if o != nil {
		o.waiting.Store(&what)
	}
}

// metrics is where the metrics of this process are registered; nil: nowhere.
func (o *Telemetry) metrics() prometheus.Registerer {
	if o == nil {
		return nil
	}
	return o.registry
}

// observe shows a daemon for as long as its work goes on.
func (o *Telemetry) observe(work daemon.Work) daemon.Work {
	if o == nil {
		return work
	}
	return func(taking, doing context.Context, d *daemon.Daemon) error {
		o.daemon.Store(&observedDaemon{taking: taking, alive: d.Alive})
		defer o.daemon.Store(nil)
		return work(taking, doing, d)
	}
}

// alive says what keeps the daemon from making progress. A process without one
// is waiting for Postgres or NATS, which a restart would not bring back.
func (o *Telemetry) alive() error {
	if d := o.daemon.Load(); d != nil {
		return d.alive()
	}
	return nil
}

func (o *Telemetry) working() error {
	d := o.daemon.Load()
	switch {
	case d == nil:
		return errors.New("not registered")
	case d.taking.Err() != nil:
		return errors.New("draining")
	}
	return nil
}
