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
	registry *prometheus.Registry           // nil: there is injected
	injected prometheus.Registerer          // a program's own
	waiting  atomic.Pointer[string]         // what the process waits for as it starts
	ready    atomic.Pointer[Resources]      // nil: it waits
	daemon   atomic.Pointer[observedDaemon] // nil: none is registered
}

// observedDaemon is a daemon from its registration to the end of its work.
type observedDaemon struct {
	taking context.Context
	alive  func() error
}

// MetricsTo has daemons register their metrics with a program's own registerer.
func MetricsTo(reg prometheus.Registerer) *Telemetry { return &Telemetry{injected: reg} }

// ServeAdmin serves health and metrics at its address, or nothing if that is empty. From
// the end of taking on the process is not ready; nor is it while no daemon
// runs, unless it is of a kind that runs none. Daemons that run with these
// resources afterwards are shown. The caller must call stop, before it closes
// the resources. Exemplars are shown to who asks for OpenMetrics.
func (r *Resources) ServeAdmin(taking context.Context, admin config.Admin, exemplars, runsDaemon bool) (stop func(), err error) {
	s, err := StartAdmin(taking, admin, exemplars, runsDaemon, r.Log)
	if err == nil {
		r.ShownBy(s)
	}
	return s.Stop, err
}

// AdminServer is that of a process which may have nothing yet to be ready with.
type AdminServer struct {
	// Addr is where it listens; empty: nowhere.
	Addr string
	// Stop stops it; it may be called again.
	Stop func()

	observed *Telemetry
}

// StartAdmin is ServeAdmin for a process that is yet to connect.
func StartAdmin(taking context.Context, admin config.Admin, exemplars, runsDaemon bool, log *slog.Logger) (AdminServer, error) {
	if admin.Addr == "" {
		return AdminServer{Stop: func() {}}, nil
	}
	observed := &Telemetry{registry: health.NewRegistry(daemon.Version)}
	telemetry.SpansDropped(observed.registry) // 0 where there are none
	server, err := health.New(taking, health.Config{
		Addr: string(admin.Addr), Alive: observed.alive, Ready: observed.checks(taking, runsDaemon),
		Metrics: telemetry.WithFormerNames(observed.registry), Exemplars: exemplars, Profiles: admin.Pprof, Log: log,
	})
	if err != nil {
		return AdminServer{}, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(taking))
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Run(ctx); err != nil {
			log.Error("admin server", "err", err)
		}
	})
	return AdminServer{Addr: server.Addr().String(), observed: observed, Stop: func() {
		cancel()
		running.Wait()
	}}, nil
}

// Telemetry is what the server shows; nil: there is none.
func (s AdminServer) Telemetry() *Telemetry { return s.observed }

// WaitsFor has /readyz say what the process waits for as it starts.
func (s AdminServer) WaitsFor(what string) {
	if s.observed != nil {
		s.observed.waiting.Store(&what)
	}
}

// ShownBy has the admin server show a process that has what it needs.
func (r *Resources) ShownBy(s AdminServer) {
	r.Telemetry, r.AdminAddr = s.observed, s.Addr
	if s.observed != nil {
		shown := *r
		s.observed.ready.Store(&shown)
	}
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
		{Name: "nats", Do: o.whenReady(brokerConnected)},
		{Name: "postgres", Do: o.whenReady(databaseWritable)},
	}
}

func brokerConnected(_ context.Context, r *Resources) error {
	if status := r.Conn.Status(); !r.Conn.IsConnected() {
		return fmt.Errorf("the connection is %s", status)
	}
	return nil
}

func databaseWritable(ctx context.Context, r *Resources) error {
	if err := r.Store.Ping(ctx); err != nil {
		r.Log.Debug("not ready", "err", err)
		if errors.Is(err, postgres.ErrReadOnly) {
			return postgres.ErrReadOnly
		}
		return errors.New("no answer") // the cause may name hosts and users
	}
	return nil
}

func (o *Telemetry) whenReady(check func(context.Context, *Resources) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if r := o.ready.Load(); r != nil {
			return check(ctx, r)
		}
		return nil
	}
}

// metrics is where the metrics of this process are registered; nil: nowhere.
func (o *Telemetry) metrics() prometheus.Registerer {
	switch {
	case o == nil:
		return nil
	case o.injected != nil:
		return o.injected
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
