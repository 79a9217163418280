package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"syscall"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/control"
	"fusillade/internal/jsonl"
	"fusillade/internal/seal"
	"fusillade/streams"
)

// Listen opens the API's address.
func Listen(ctx context.Context, s config.Serving) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", string(s.Listen))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use; choose another address, or port 0 for a free one", s.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", s.Listen, err)
	}
	return listener, nil
}

// APIOptions is what the API needs to know.
type APIOptions struct {
	config.API
	Models []string // to list beside those that files ask for
}

// localOwner owns everything where no keys are asked for.
const localOwner = "local"

// NewAPI returns a server of the API that is yet to run.
func NewAPI(r Resources, o APIOptions) (*api.Server, error) {
	cfg, err := APIConfig(r, o)
	if err != nil {
		return nil, err
	}
	return api.New(cfg)
}

// APIConfig is how NewAPI configures the server.
func APIConfig(r Resources, o APIOptions) (api.Config, error) {
	operator, err := control.New(control.Config{Store: r.Store, Conn: r.Conn, Metrics: r.Telemetry.metrics(), Log: r.Log})
	if err != nil {
		return api.Config{}, err
	}
	box, err := seal.New(o.Encryption.Key.All()...)
	if err != nil {
		return api.Config{}, err
	}
	owner := localOwner
	if o.NeedsKeys() {
		owner = ""
	}
	return api.Config{
		Store: r.Store, Controller: operator, Log: r.Log, ParseWindow: config.ParseWindow,
		Wake:  func() { _ = r.Conn.Publish(streams.HintWork, nil) }, // a hint that is lost costs one claim interval
		Owner: owner, Loopback: o.Loopback(), Models: o.Models, Keyring: box,
		Limits:     jsonl.Limits{MaxRequests: o.MaxFileRequests, MaxRequestBytes: o.MaxRequestBytes, MaxFileBytes: int64(o.MaxFileBytes)},
		Allowance:  batch.Allowance{ActiveBatches: amount(o.MaxActiveBatches), QueuedRequests: int64(amount(o.MaxQueuedRequests))},
		MaxUploads: o.MaxUploads, DrainTimeout: o.DrainTimeout.Duration(),
	}, nil
}

func amount(o config.OptionalInt) int {
	if o.None {
		return 0
	}
	return o.Value
}

// ConfiguredModels are those that the settings name.
func ConfiguredModels(d config.Daemon, u config.Upstream) (names []string) {
	for _, model := range slices.Concat(slices.Collect(maps.Keys(d.ModelConcurrencyLimits)), slices.Collect(maps.Keys(u.Models))) {
		names = append(names, string(model))
	}
	return names
}

// ServeAPI listens and serves until taking ends.
func ServeAPI(t Env, o APIOptions) error {
	server, err := NewAPI(t.Resources, o)
	if err != nil {
		return err
	}
	listener, err := Listen(t.Taking, o.Serving)
	if err != nil {
		return err
	}
	t.Log.Info("listening", "addr", listener.Addr().String(), "keys", o.NeedsKeys())
	return server.Run(t.Taking, listener)
}
