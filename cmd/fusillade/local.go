package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/localrun"
	"fusillade/internal/mock"
)

// localFlags are those of the commands that do everything in one process.
type localFlags struct {
	Upstream    string   `placeholder:"URL" help:"Model endpoint, such as https://api.openai.com (FUSILLADE_UPSTREAM_URL)."`
	APIKeyEnv   string   `name:"api-key-env" placeholder:"NAME" help:"Environment variable that holds the endpoint's API key."`
	Concurrency string   `placeholder:"N|auto|MODEL=N,..." help:"Calls in flight per model: one number for all, or one for each; auto, or auto:MIN-MAX: as many as the endpoint takes (FUSILLADE_DEFAULT_MODEL_CONCURRENCY, FUSILLADE_MODEL_CONCURRENCY_LIMITS)."`
	DataDir     string   `placeholder:"DIR" help:"Where everything is kept; one process at a time may use it. After a stop the next one goes on where it was. Default: a directory for your user, and another one with --mock."`
	Mock        bool     `help:"Call a built-in mock model endpoint."`
	MockLatency string   `default:"20ms" placeholder:"TIME" help:"Its latency, as for fusillade mock (default ${default})."`
	MockErrors  string   `placeholder:"STATUS=RATE,..." help:"Its errors, as for fusillade mock."`
	MockKnee    string   `placeholder:"N" help:"How many calls it works on at once, while more wait, as --knee of fusillade mock."`
	MockCeiling string   `placeholder:"N" help:"Its most calls in flight, beyond which it answers 429, as for fusillade mock."`
	MockChange  []string `sep:"none" placeholder:"TIME={...}" help:"Changes of its settings while it runs, as for fusillade mock."`
	NATSListen  string   `name:"nats-listen" placeholder:"HOST:PORT" help:"Open the embedded broker's port, to look into it with the nats command line. It asks for no credentials; at 127.0.0.1:PORT only this machine reaches it."`
}

// config is how to do everything in this process.
func (c *localFlags) config() (localrun.Config, error) {
	cfg, err := c.settings()
	if err != nil {
		return localrun.Config{}, err
	}
	local := localrun.Config{Settings: cfg, DataDir: c.DataDir, NATSListen: c.NATSListen}
	if c.Mock {
		local.Mock = &mock.Config{
			Settings:      mock.Settings{Latency: c.MockLatency, Errors: c.MockErrors, Knee: c.MockKnee, Ceilings: c.MockCeiling},
			DropCustomIDs: true,
			Changes:       c.MockChange,
		}
	}
	return local, nil
}

// settings are those of the environment with the flags laid over them.
func (c *localFlags) settings() (*config.Standalone, error) {
	cfg, err := loadSettings()
	if err != nil {
		return nil, err
	}
	if c.Mock && c.Upstream != "" {
		return nil, cli.Usage(errors.New("--mock and --upstream exclude each other"))
	}
	if c.Upstream != "" {
		if err := cfg.Upstream.URL.Set(c.Upstream); err != nil {
			if !strings.Contains(c.Upstream, "://") && !strings.Contains(c.Upstream, "@") { // it may hold a password
				err = fmt.Errorf("%s is not a URL; did you mean http://%s?", c.Upstream, c.Upstream)
			}
			return nil, cli.Usage(fmt.Errorf("--upstream: %w", err))
		}
	}
	if !c.Mock && !cfg.Upstream.URL.IsSet() && len(cfg.Upstream.Models) == 0 {
		return nil, cli.Usage(errors.New("--upstream URL is required, or --mock for a try without one"))
	}
	if c.APIKeyEnv != "" {
		key, ok := os.LookupEnv(c.APIKeyEnv)
		if !ok || key == "" {
			return nil, cli.Usage(fmt.Errorf("--api-key-env: the environment variable %s is not set", c.APIKeyEnv))
		}
		if err := cfg.Upstream.APIKey.Set(key); err != nil {
			return nil, cli.Usage(fmt.Errorf("--api-key-env: the content of %s is no key: %w", c.APIKeyEnv, err))
		}
	}
	if err := c.setConcurrency(cfg); err != nil {
		return nil, cli.Usage(fmt.Errorf("--concurrency: %w", err))
	}
	if c.DataDir, err = dataDir(c.DataDir, c.Mock); err != nil {
		return nil, cli.Usage(err)
	}
	if err := config.Validate(cfg); err != nil {
		return nil, cli.Usage(err)
	}
	return cfg, nil
}

// setConcurrency sets the limits, and raises what one process may have in
// flight to what those that are numbers add up to.
func (c *localFlags) setConcurrency(cfg *config.Standalone) error {
	switch limit, err := batch.ParseLimit(c.Concurrency); {
	case c.Concurrency == "":
	case err == nil:
		cfg.DefaultModelConcurrency = limit
	case strings.ContainsAny(c.Concurrency, "={"):
		if err := cfg.ModelConcurrencyLimits.Set(c.Concurrency); err != nil {
			return fmt.Errorf("neither a number, auto nor MODEL=N,…: %w", err)
		}
	default:
		return fmt.Errorf("%s %w", cli.Plain(c.Concurrency), err)
	}
	sum := max(int(cfg.DefaultModelConcurrency), 0)
	for _, n := range cfg.ModelConcurrencyLimits {
		sum += max(int(n), 0)
	}
	cfg.MaxInFlight = max(cfg.MaxInFlight, sum)
	return nil
}

// dataDir is the flag's path, absolute, or the default: for tries with the mock
// endpoint one of their own, so that they don't mix with what is real.
func dataDir(path string, mock bool) (string, error) {
	if path == "" {
		path, err := defaultDataDir()
		if mock {
			path += "-mock"
		}
		return path, err
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
