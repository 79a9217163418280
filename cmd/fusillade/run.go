package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/postgres"
)

type runCmd struct {
	Input            string `short:"i" required:"" placeholder:"FILE|-" help:"Requests, one JSON object per line, as for the OpenAI Batch API; - reads standard input."`
	Output           string `short:"o" required:"" placeholder:"FILE" help:"Where to write the results, one JSON object per line."`
	Errors           string `placeholder:"FILE" help:"Where to write the requests that failed. Default: the output's name with .errors before its extension."`
	CompletionWindow string `default:"24h" placeholder:"TIME" help:"Time to finish in, such as 90m, 24h or 7d; what is not being called by then expires (default ${default})."`
	Again            bool   `help:"Begin anew, though this input was run to its end before."`
	localFlags
}

// localFlags are those of the commands that do everything in one process.
type localFlags struct {
	Upstream    string `placeholder:"URL" help:"Model endpoint, such as https://api.openai.com (FUSILLADE_UPSTREAM_URL)."`
	APIKeyEnv   string `name:"api-key-env" placeholder:"NAME" help:"Environment variable that holds the endpoint's API key."`
	Concurrency string `placeholder:"N|MODEL=N,..." help:"Calls in flight per model: one number for all, or one for each (FUSILLADE_DEFAULT_MODEL_CONCURRENCY, FUSILLADE_MODEL_CONCURRENCY_LIMITS)."`
	DataDir     string `placeholder:"DIR" help:"Where everything is kept; one process at a time may use it. After a stop the next one goes on where it was. Default: a directory for your user."`
	Mock        bool   `help:"Call a built-in mock model endpoint."`
	MockLatency string `default:"20ms" placeholder:"TIME" help:"Its latency, as for fusillade mock (default ${default})."`
	MockErrors  string `placeholder:"STATUS=RATE,..." help:"Its errors, as for fusillade mock."`
	NATSListen  string `name:"nats-listen" placeholder:"HOST:PORT" help:"Open the embedded broker's port, to look into it with the nats command line."`
}

// Run runs the job and writes its results. Exit codes: 0, all completed; 1,
// some failed; 2, nothing could be started, or not to the end; 130, stopped by
// a signal.
func (c *runCmd) Run(s signals, t *terminal) error {
	cfg, err := c.settings()
	if err != nil {
		return err
	}
	window, err := config.ParseWindow(c.CompletionWindow)
	if err != nil {
		return usage(fmt.Errorf("--completion-window: %w", err))
	}
	input, err := openInput(c.Input)
	if err != nil {
		return usage(err)
	}
	defer input.Close()
	outputs, err := newOutputs(c.Output, c.Errors)
	if err != nil {
		return usage(err)
	}
	if c.Mock {
		stop, err := c.startMock(s.doing, cfg)
		if err != nil {
			return usage(err)
		}
		defer stop()
	} else if err := reachable(s.taking, &cfg.Upstream); err != nil {
		return usage(err)
	}
	log, closeLog, err := openLog(cfg, c.DataDir)
	if err != nil {
		return usage(err)
	}
	defer closeLog()

	local, err := app.StartLocal(s.taking, c.local(cfg, log))
	if err != nil {
		return stopped(s, t, err)
	}
	defer func() {
		if err := local.Stop(); err != nil {
			t.say("stopping: %v", err)
		}
	}()
	stopAdmin, err := c.show(s, t, cfg, local)
	if err != nil {
		return err
	}
	defer stopAdmin()
	j := &job{store: local.Store, input: input, window: window, windowText: c.CompletionWindow, again: c.Again, terminal: t}
	id, err := j.batch(s.taking)
	if err != nil {
		return stopped(s, t, err)
	}
	b, err := c.work(s, t, local, cfg, id)
	if err != nil {
		return stopped(s, t, err)
	}
	if !b.Status.Terminal() {
		t.say("stopped with %d of %d requests done; run the same command again to go on", b.Counts.Done(), b.Counts.Total)
		return errInterrupted
	}
	if err := outputs.write(s.doing, local.Store, id); err != nil {
		return stopped(s, t, err)
	}
	return outputs.summary(t, b)
}

// stopped says whether an error is that of a stop by the user.
func stopped(s signals, t *terminal, err error) error {
	if s.taking.Err() != nil {
		t.say("interrupted; run the same command again to go on")
		return errInterrupted
	}
	if postgres.DiskFull(err) {
		return usage(fmt.Errorf("the data directory's disk is full; free some space and run the same command again, it goes on where it was: %w", err))
	}
	return usage(err)
}

// settings are those of the environment with the flags laid over them.
func (c *localFlags) settings() (*config.Standalone, error) {
	cfg, err := loadSettings()
	if err != nil {
		return nil, err
	}
	if c.Mock && c.Upstream != "" {
		return nil, usage(errors.New("--mock and --upstream exclude each other"))
	}
	if c.Upstream != "" {
		if err := cfg.Upstream.URL.Set(c.Upstream); err != nil {
			return nil, usage(fmt.Errorf("--upstream: %w", err))
		}
	}
	if !c.Mock && !cfg.Upstream.URL.IsSet() && len(cfg.Upstream.Models) == 0 {
		return nil, usage(errors.New("--upstream URL is required, or --mock for a try without one"))
	}
	if c.APIKeyEnv != "" {
		key, ok := os.LookupEnv(c.APIKeyEnv)
		if !ok || key == "" {
			return nil, usage(fmt.Errorf("--api-key-env: the environment variable %s is not set", c.APIKeyEnv))
		}
		if err := cfg.Upstream.APIKey.Set(key); err != nil {
			return nil, usage(fmt.Errorf("--api-key-env: the content of %s is no key: %w", c.APIKeyEnv, err))
		}
	}
	if err := c.setConcurrency(cfg); err != nil {
		return nil, usage(fmt.Errorf("--concurrency: %w", err))
	}
	if c.DataDir, err = dataDir(c.DataDir); err != nil {
		return nil, usage(err)
	}
	if err := config.Validate(cfg); err != nil {
		return nil, usage(err)
	}
	return cfg, nil
}

// setConcurrency sets the limits, and raises what one process may have in
// flight to what they add up to.
func (c *localFlags) setConcurrency(cfg *config.Standalone) error {
	if n, err := strconv.Atoi(c.Concurrency); err == nil {
		if n < 1 {
			return errors.New("must be at least 1")
		}
		cfg.DefaultModelConcurrency = n
	} else if c.Concurrency != "" {
		if err := cfg.ModelConcurrencyLimits.Set(c.Concurrency); err != nil {
			return fmt.Errorf("neither a number nor MODEL=N,…: %w", err)
		}
	}
	sum := cfg.DefaultModelConcurrency
	for _, n := range cfg.ModelConcurrencyLimits {
		sum += n
	}
	cfg.MaxInFlight = max(cfg.MaxInFlight, sum)
	return nil
}

// local says how to run everything in this process.
func (c *localFlags) local(cfg *config.Standalone, log *slog.Logger) app.LocalConfig {
	return app.LocalConfig{
		DataDir: c.DataDir, NATSListen: c.NATSListen, Settings: cfg, Log: log,
	}
}

// show says where everything is, and serves health and metrics if they are
// asked for. The caller must call stop before it stops local.
func (c *localFlags) show(s signals, t *terminal, cfg *config.Standalone, local *app.Local) (stop func(), err error) {
	t.say("data directory: %s (%s)", c.DataDir, local.Database)
	if local.NATSURL != "" {
		t.say("broker: %s", local.NATSURL)
	}
	if stop, err = local.ServeAdmin(s.taking, string(cfg.Admin.Addr), true); err != nil {
		return nil, usage(err)
	}
	if local.AdminAddr != "" {
		t.say("health and metrics: http://%s", local.AdminAddr)
	}
	return stop, nil
}

// dataDir is the flag's path, absolute, or the default.
func dataDir(path string) (string, error) {
	if path == "" {
		return defaultDataDir()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("--data-dir: %w", err)
	}
	return path, nil
}

// defaultDataDir is for this user's state. For root it is a place that the
// unprivileged user whom Postgres runs as can reach.
func defaultDataDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/fusillade", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fusillade"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("--data-dir is required: %w", err)
	}
	return filepath.Join(home, ".local", "state", "fusillade"), nil
}

const logName = "fusillade.log"

// openLog sends the log to a file in the data directory, where it does not
// get between the lines of the progress.
func openLog(cfg *config.Standalone, dataDir string) (*slog.Logger, func(), error) {
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("creating the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dataDir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the log: %w", err)
	}
	return config.NewLogger(cfg.Logging, f), func() { _ = f.Close() }, nil
}

const dialTimeout = 10 * time.Second

// reachable finds out before any work is done whether the upstreams take
// connections at all.
func reachable(ctx context.Context, u *config.Upstream) error {
	targets := []string{}
	if u.URL.IsSet() {
		targets = append(targets, u.URL.Reveal())
	}
	for _, own := range u.Models {
		targets = append(targets, own.Reveal())
	}
	for _, target := range targets {
		parsed, err := url.Parse(target)
		if err != nil {
			return errors.New("--upstream is not a URL")
		}
		port := parsed.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[parsed.Scheme]
		}
		address := net.JoinHostPort(parsed.Hostname(), port)
		dialer := net.Dialer{Timeout: dialTimeout}
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("the upstream %s://%s cannot be reached: %w", parsed.Scheme, parsed.Host, err)
		}
		_ = conn.Close()
	}
	return nil
}

// writeTroubleLimit is how long results may fail to be written before the run
// is ended. They are kept in memory meanwhile, and called again otherwise.
const writeTroubleLimit = 30 * time.Second

// work runs the pipeline until the batch has ended or the user stops it.
func (c *runCmd) work(s signals, t *terminal, local *app.Local, cfg *config.Standalone, id batch.ID) (postgres.Batch, error) {
	taking, stopTaking := context.WithCancel(s.taking)
	defer stopTaking()
	doing, stopDoing := context.WithCancel(s.doing)
	defer stopDoing()
	var consumer atomic.Pointer[consume.Consumer]
	finished := make(chan error, 1)
	go func() {
		finished <- app.Standalone(taking, doing, local.Resources, cfg, func(c *consume.Consumer) { consumer.Store(c) })
		close(finished)
	}()
	p := newProgress(t)
	b, err := watch(s.taking, local, id, finished, func(b postgres.Batch) error {
		var stats consume.Stats
		if c := consumer.Load(); c != nil {
			stats = c.Stats()
		}
		p.show(b, stats)
		return hopeless(stats, c.DataDir)
	})
	stopTaking()
	if s.taking.Err() != nil && !b.Status.Terminal() {
		p.note("finishing %d calls in flight; once more to stop at once", b.Counts.InProgress)
	} else {
		stopDoing() // nothing is left to do: no call in flight, no message on its way
	}
	if runErr, ok := <-finished; ok && err == nil && runErr != nil && !b.Status.Terminal() {
		err = runErr
	}
	p.end()
	if err != nil {
		return b, err
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(s.doing), dialTimeout)
	defer cancel()
	return local.Store.GetBatch(final, id, nil)
}

// hopeless ends a run whose results cannot be written, before it fills memory
// and calls more in vain.
func hopeless(stats consume.Stats, dataDir string) error {
	trouble := stats.LastError
	if trouble == nil || trouble.Err == nil || time.Since(trouble.At) > writeTroubleLimit {
		return nil
	}
	if postgres.DiskFull(trouble.Err) {
		return trouble.Err
	}
	return nil
}

const watchInterval = 50 * time.Millisecond

var errDatabaseEnded = errors.New("postgres has ended; see the log in the data directory")

// watch reads the batch's counters until it has ended.
func watch(ctx context.Context, local *app.Local, id batch.ID, finished <-chan error, each func(postgres.Batch) error) (b postgres.Batch, err error) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		latest, getErr := local.Store.GetBatch(ctx, id, nil)
		if getErr == nil {
			b = latest
		} else if ctx.Err() == nil && !postgres.Transient(getErr) {
			return b, getErr
		}
		if err := each(b); err != nil {
			return b, err
		}
		if b.Status.Terminal() {
			return b, nil
		}
		select {
		case <-ctx.Done():
			return b, nil
		case <-local.DatabaseEnded():
			return b, errDatabaseEnded
		case err := <-finished:
			return b, errors.Join(errors.New("the pipeline ended early"), err)
		case <-tick.C:
		}
	}
}

// startMock serves the mock endpoint in this process and makes it the upstream.
func (c *localFlags) startMock(ctx context.Context, cfg *config.Standalone) (stop func(), err error) {
	server, err := (&mockCmd{Listen: "127.0.0.1:0", Latency: c.MockLatency, Errors: c.MockErrors, NoCustomIDs: true}).start(ctx)
	if err != nil {
		return nil, err
	}
	if err := cfg.Upstream.URL.Set(server.url); err != nil {
		return nil, errors.Join(err, server.stop())
	}
	return func() { _ = server.stop() }, nil
}
