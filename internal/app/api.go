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
	"fusillade/internal/ui"
	"fusillade/streams"
)

// Listen opens the API's address.
func Listen(ctx context.Context, s config.Server) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", string(s.Listen))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use; choose another address, or port 0 for a free one", s.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", s.Listen, err)
	}
	if leadsElsewhere(&s, listener.Addr()) {
		return nil, errors.Join(fmt.Errorf("%s leads to %s, which other machines can reach: set FUSILLADE_API_AUTH to keys, or to none", s.Listen, listener.Addr()), listener.Close())
	}
	return listener, nil
}

// leadsElsewhere reports whether no keys are asked for since LISTEN_ADDR names this
// machine, and other machines can reach the address all the same: a name may lead
// anywhere.
func leadsElsewhere(s *config.Server, to net.Addr) bool {
	addr, ok := to.(*net.TCPAddr)
	return ok && s.Auth == "" && !s.NeedsKeys() && !addr.IP.IsLoopback()
}

// localOwner owns everything where no keys are asked for.
const localOwner = "local"

// NewAPI returns a server of the API that is yet to run. It lists models
// beside those that files ask for.
func NewAPI(r Resources, settings *config.API, models ...string) (*api.Server, error) {
	cfg, err := APIConfig(r, settings, models...)
	if err != nil {
		return nil, err
	}
	server, err := api.New(cfg)
	if err != nil || !settings.UI {
		return server, err
	}
	_, err = ui.New(ui.Config{
		API: server, Store: cfg.Store, Controller: cfg.Controller, Conn: r.Conn, Log: r.Log, Prices: batch.Prices(settings.ModelPrices),
	})
	return server, err
}

// APIConfig is how NewAPI configures the server.
func APIConfig(r Resources, o *config.API, models ...string) (api.Config, error) {
	controller, err := control.New(control.Config{Store: r.Store, Conn: r.Conn, Shards: r.Streams.Shards, Keyring: r.Keyring, Metrics: r.Telemetry.metrics(), Log: r.Log})
	if err != nil {
		return api.Config{}, err
	}
	owner := localOwner
	if o.NeedsKeys() {
		owner = ""
	}
	return api.Config{
		Store: r.Store, Controller: controller, Tracer: r.Tracer, Log: r.Log, ParseWindow: config.ParseWindow,
		Ready: func(ctx context.Context) error {
			return errors.Join(brokerConnected(ctx, &r), databaseWritable(ctx, &r))
		},
		Wake:  func() { _ = r.Conn.Publish(streams.HintWork, nil) }, // a hint that is lost costs one claim interval
		Owner: owner, Hosts: o.KnownHosts(), Models: models, Keyring: r.Keyring, Prices: batch.Prices(o.ModelPrices),
		Limits:      jsonl.Limits{MaxRequests: o.MaxFileRequests, MaxRequestBytes: o.MaxRequestBytes, MaxFileBytes: int64(o.MaxFileBytes)},
		ModelLimits: batch.ModelLimits{PerOwner: amount(o.MaxModelsPerOwner), Total: amount(o.MaxModels)}, AllowedModels: o.ModelsAllowed, AllowedEndpoints: o.EndpointsAllowed,
		Allowance:  batch.Allowance{ActiveBatches: amount(o.MaxActiveBatches), QueuedRequests: int64(amount(o.MaxQueuedRequests))},
		MaxUploads: o.MaxUploads, MaxUploadsPerOwner: o.MaxUploadsPerOwner, MaxDownloadsPerOwner: o.MaxDownloadsPerOwner,
		MaxWatchersPerOwner: o.MaxEventStreamsPerOwner, UploadTimeout: o.UploadTimeout.Duration(), SessionTTL: o.UISessionTTL.Duration(), DrainTimeout: o.DrainTimeout.Duration(),
	}, nil
}

func amount(o config.OptionalInt) int {
	if o.None {
		return 0
	}
	return o.Value
}

// ConfiguredModels are those that the settings name.
func ConfiguredModels(cfg *config.Standalone) (names []string) {
	for _, model := range slices.Concat(slices.Collect(maps.Keys(cfg.ModelConcurrencyLimits)), slices.Collect(maps.Keys(cfg.Upstream.Models))) {
		names = append(names, string(model))
	}
	return names
}

// ServeAPI listens and serves until taking ends.
func ServeAPI(taking context.Context, r Resources, cfg *config.API) error {
	server, err := NewAPI(r, cfg)
	if err != nil {
		return err
	}
	var listener net.Listener
	if r.door != nil {
		listener = r.door.pass()
	} else if listener, err = Listen(taking, cfg.Server); err != nil {
		return err
	}
	r.Log.Info("listening", "addr", listener.Addr().String(), "keys", cfg.NeedsKeys())
	return server.Run(taking, listener)
}
