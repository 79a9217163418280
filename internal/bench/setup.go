package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/localrun"
	"fusillade/internal/postgres"
)

// setup is what a pipeline in this process stands on: a mock endpoint in a process
// of its own, Postgres and a broker.
type setup struct {
	dir    string
	cfg    *config.Standalone
	local  *app.Local
	mock   *mockProcess
	closes []func() error
}

// setUp starts all of it. The caller must call close.
func setUp(s cli.Signals, o *Options, cfg *config.Standalone, servers int) (st *setup, err error) {
	st = &setup{cfg: cfg, dir: o.DataDir}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.close())
		}
	}()
	if st.dir == "" {
		if st.dir, err = os.MkdirTemp("", "fusillade-bench-"); err != nil {
			return st, err
		}
		st.closes = append(st.closes, func() error { return os.RemoveAll(st.dir) })
		// Postgres may run as another user.
		if err := os.Chmod(st.dir, 0o755); err != nil {
			return st, err
		}
	}
	cfg.DefaultModelConcurrency = batch.Limit(o.Concurrency)
	cfg.MaxInFlight = max(cfg.MaxInFlight, o.Concurrency)
	if o.Models > 1 { // the calls in flight are those of all models together
		cfg.MaxInFlight = o.Concurrency
	}
	var https *certificate
	if o.HTTP2 {
		if https, err = makeCertificate(st.dir); err != nil {
			return st, fmt.Errorf("making a certificate for the mock endpoint: %w", err)
		}
		st.closes = append(st.closes, https.remove)
		if err := cfg.Upstream.CA.Set(https.certFile); err != nil {
			return st, err
		}
	}
	if st.mock, err = startMockProcess(s.Doing, "127.0.0.1:0", o.Latency, https); err != nil {
		return st, err
	}
	st.closes = append(st.closes, st.mock.stop)
	if err := cfg.Upstream.URL.Set(st.mock.url); err != nil {
		return st, err
	}
	log, closeLog, err := localrun.OpenLog(cfg.Logging, st.dir)
	if err != nil {
		return st, err
	}
	st.closes = append(st.closes, func() error { closeLog(); return nil })
	st.local, err = app.StartLocal(s.Taking, app.LocalConfig{
		DataDir: st.dir, Settings: cfg, Log: log, NATSServers: servers,
	})
	if err != nil {
		return st, err
	}
	st.closes = append(st.closes, st.local.Stop)
	return st, nil
}

// close stops what was started, the last first.
func (st *setup) close() error {
	var errs []error
	for _, f := range slices.Backward(st.closes) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// begin runs the pipeline of a measurement until stop is called.
func (m *measurement) begin(s cli.Signals, st *setup) (stop func() error) {
	taking, stopTaking := context.WithCancel(s.Taking)
	doing, stopDoing := context.WithCancel(s.Doing)
	finished := make(chan error, 1)
	var consumer atomic.Pointer[consume.Consumer]
	go func() {
		finished <- app.Standalone(taking, doing, st.local.Resources, st.cfg, func(c *consume.Consumer) { consumer.Store(c) })
		close(finished)
	}()
	m.watch = func(ctx context.Context, id batch.ID, each func(postgres.Batch) error) (postgres.Batch, error) {
		return localrun.Watch(ctx, st.local, id, finished, each)
	}
	m.wait = func(ctx context.Context, id batch.ID) (postgres.Batch, error) {
		return m.watch(ctx, id, func(postgres.Batch) error { return nil })
	}
	cpu := newCPUClock(filepath.Join(st.dir, "postgres"))
	m.spent = func() spending {
		self, database := cpu.used()
		used := spending{cpu: self, databaseCPU: database}
		if c := consumer.Load(); c != nil {
			used.calls = c.Stats().CallTime
		}
		return used
	}
	m.inFlight = func() int {
		if c := consumer.Load(); c != nil {
			return c.Stats().InFlight
		}
		return 0
	}
	return func() error {
		stopTaking()
		stopDoing()
		return <-finished
	}
}

// startMockProcess serves the mock endpoint in a process of its own, so that
// its work and its garbage are not the pipeline's. Without a certificate it is http.
func startMockProcess(ctx context.Context, addr string, latency time.Duration, https *certificate) (*mockProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	args := []string{"--listen", addr, "--no-custom-ids", "--latency", latency.String()}
	if https == nil {
		return runMock(ctx, self, args...)
	}
	m, err := runMock(ctx, self, append(args, "--tls-cert", https.certFile, "--tls-key", https.keyFile)...)
	if err == nil {
		m.roots = https.roots
	}
	return m, err
}
