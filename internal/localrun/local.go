package localrun

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"fusillade/internal/app"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/mock"
)

// Config is what Run and Serve have in common.
type Config struct {
	Settings   *config.Standalone
	DataDir    string       // absolute; one process at a time may use it
	Mock       *mock.Config // nil: calls go where the settings say
	NATSListen string       // opens the broker's port; empty: none
}

// startMock serves the mock endpoint in this process and makes it the upstream.
// It does nothing where none is asked for.
func (c *Config) startMock(ctx context.Context) (stop func(), err error) {
	if c.Mock == nil {
		return func() {}, nil
	}
	endpoint, err := mock.Listen(ctx, "127.0.0.1:0", *c.Mock)
	if err != nil {
		return nil, err
	}
	c.Settings.Upstream = config.Upstream{APIKey: c.Settings.Upstream.APIKey, Proxy: c.Settings.Upstream.Proxy, UpstreamTLS: c.Settings.Upstream.UpstreamTLS} // no model is called elsewhere, or otherwise
	if err := c.Settings.Upstream.URL.Set(endpoint.URL); err != nil {
		return nil, errors.Join(err, endpoint.Stop())
	}
	return func() { _ = endpoint.Stop() }, nil
}

// local says how to start Postgres and the broker.
func (c *Config) local(log *slog.Logger) app.LocalConfig {
	return app.LocalConfig{
		DataDir: c.DataDir, NATSListen: c.NATSListen, Settings: c.Settings, Log: log,
	}
}

// show prints where everything is.
func (c *Config) show(t *cli.Terminal, local *app.Local) {
	t.Notef("data directory: %s (%s)", c.DataDir, local.Database)
	if c.Settings.NATS.URL.IsSet() {
		t.Notef("FUSILLADE_NATS_URL or NATS_URL is set and not used: this command has a broker of its own")
	}
	if local.NATSURL != "" {
		t.Notef("broker: %s", local.NATSURL)
	}
	if local.NATSExposed {
		t.Notef("The broker asks for no credentials, and --nats-listen %s can be reached from other machines: who connects can read what is known of batches and change limits. With 127.0.0.1 only this machine reaches it.", c.NATSListen)
	}
	if local.AdminAddr != "" {
		t.Notef("health and metrics: http://%s", local.AdminAddr)
	}
}

const logName = "fusillade.log"

// OpenLog sends the log to a file in the data directory, where it does not
// get between the lines of the progress.
func OpenLog(cfg config.Logging, dataDir string) (*slog.Logger, func(), error) {
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("creating the data directory: %w (--data-dir names another)", err)
	}
	f, err := os.OpenFile(filepath.Join(dataDir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the log: %w", err)
	}
	return config.NewLogger(cfg, f), func() { _ = f.Close() }, nil
}
