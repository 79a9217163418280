// Package fusillade pushes huge batches of LLM requests through model endpoints,
// from within a program: it submits batches, also in the program's own
// transactions, runs the dispatcher, the consumer or both, and hands out results.
//
// Postgres is the source of truth and NATS JetStream carries the work. Both are the
// program's own, or embedded ones in a data directory:
//
//	cfg := fusillade.DefaultConfig()
//	cfg.DataDir, cfg.Upstream = "/var/lib/nightly", "https://api.example.com"
//	f, err := fusillade.New(ctx, cfg)
//	…
//	go f.Run(ctx)
//	id, err := f.SubmitFile(ctx, file, fusillade.SubmitOptions{})
//	batch, err := f.Wait(ctx, id)
//	for result, err := range f.Results(ctx, id) { … }
//
// Nothing reads the environment, and nothing ends the process. What is exported here
// follows semantic versioning.
package fusillade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/internal/tracing"
	"fusillade/internal/upstream"
)

// Fusillade submits batches, and works on them while Run does. It is safe for
// concurrent use.
type Fusillade struct {
	cfg        Config
	settings   *config.Standalone
	resources  app.Resources
	controller *control.Controller
	local      *app.Local // nil: Postgres and NATS are the program's own

	running sync.Mutex
	up      prometheus.Gauge // registered: nobody else's metrics are there; nil: nowhere
}

// ErrRunning is returned by Run when it runs already.
var ErrRunning = errors.New("fusillade: Run runs already")

// New connects to Postgres and NATS, or starts embedded ones, and migrates the
// database. It works on nothing yet. The caller must call Close.
func New(ctx context.Context, cfg Config) (*Fusillade, error) {
	settings, err := cfg.settings()
	if err != nil {
		return nil, fmt.Errorf("fusillade: %w", err)
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	cfg.Owner = cmp.Or(cfg.Owner, "local")
	f := &Fusillade{cfg: cfg, settings: settings}
	if cfg.NATS == nil {
		f.local, err = app.StartLocal(ctx, app.LocalConfig{DataDir: cfg.DataDir, Settings: settings, Log: cfg.Logger})
		if err == nil {
			f.resources = f.local.Resources
		}
	} else {
		f.resources, err = app.Embed(ctx, settings, cfg.Pool, cfg.NATS, cfg.Logger)
	}
	if err != nil {
		return nil, fmt.Errorf("fusillade: %w", err)
	}
	if err := f.registerMetrics(); err != nil {
		return nil, errors.Join(fmt.Errorf("fusillade: %w", err), f.Close())
	}
	f.resources.Callbacks, f.resources.Transport = cfg.callbacks(), cfg.Transport
	f.resources.Tracer = tracing.New(cfg.TracerProvider)
	if cfg.ShouldRetry != nil {
		f.resources.ShouldRetry = func(r upstream.Response) bool {
			return cfg.ShouldRetry(Response{StatusCode: r.StatusCode, Body: r.Body})
		}
	}
	f.controller, err = control.New(control.Config{Store: f.resources.Store, Conn: f.resources.Conn, Shards: f.resources.Streams.Shards, Log: cfg.Logger})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fusillade: %w", err), f.Close())
	}
	return f, nil
}

// Run works on the batches of the database until ctx ends. Calls in flight have
// Config.DrainTimeout to finish then; what they leave is taken up by the next Run,
// here or elsewhere. It returns nil after that, and ErrRunning where it runs already.
func (f *Fusillade) Run(ctx context.Context) error {
	if !f.running.TryLock() {
		return ErrRunning
	}
	defer f.running.Unlock()
	if f.up != nil {
		f.up.Set(1)
		defer f.up.Set(0)
	}
	doing := context.WithoutCancel(ctx) // DrainTimeout bounds it
	switch f.cfg.Role {
	case RoleDispatcher:
		return app.Dispatch(ctx, doing, f.resources, f.settings.Dispatcher())
	case RoleConsumer:
		return app.Consume(ctx, doing, f.resources, f.settings.Consumer(), nil)
	}
	return app.Standalone(ctx, doing, f.resources, f.settings, nil)
}

// registerMetrics begins with one that says whose they are: a second Fusillade would
// mix its metrics with them, where it did not fail.
func (f *Fusillade) registerMetrics() error {
	if f.cfg.Metrics == nil {
		return nil
	}
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: telemetry.Name("running"), Help: "1 while Run of package fusillade works."})
	if err := f.cfg.Metrics.Register(up); err != nil {
		return fmt.Errorf("Metrics has those of a Fusillade already, give each a registerer of its own (prometheus.WrapRegistererWith): %w", err)
	}
	f.up, f.resources.Telemetry = up, app.MetricsTo(f.cfg.Metrics)
	return nil
}

// SetModelConcurrency changes a model's limit in the whole cluster, within a
// second: calls in flight to it. 0: as Config says.
func (f *Fusillade) SetModelConcurrency(ctx context.Context, model string, limit int) error {
	l := batch.Limit(limit)
	return f.controller.ChangeModel(ctx, batch.Model(model), postgres.ModelChange{Limit: &l})
}

// SetModelEscalation changes what a model's requests are routed to when little time
// is left before their batch expires. A zero Escalation: nothing.
func (f *Fusillade) SetModelEscalation(ctx context.Context, model string, e Escalation) error {
	to := batch.Model(e.Model)
	change := postgres.ModelChange{EscalateTo: &to}
	if e.Model != "" {
		change.EscalateBefore = &e.Before
	}
	return f.controller.ChangeModel(ctx, batch.Model(model), change)
}

// Close closes what New opened. The program's own NATS connection stays open. Run
// must have returned.
func (f *Fusillade) Close() error {
	if f.up != nil {
		f.cfg.Metrics.Unregister(f.up)
	}
	if f.local != nil {
		return f.local.Stop()
	}
	f.resources.Conn = nil // the program's own
	f.resources.Close()
	return nil
}
