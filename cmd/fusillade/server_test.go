package main

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// newServer serves the API on a database and a broker of its own, which the
// environment then names as a user's would. With answers, requests are called
// too, at a mock endpoint.
func newServer(t *testing.T, answers *mock.Settings) app.Resources {
	t.Helper()
	t.Setenv("FUSILLADE_DATABASE_URL", testenv.DatabaseURL(t))
	t.Setenv("FUSILLADE_NATS_URL", testenv.NATS(t).URL())
	cfg := new(config.Standalone)
	if err := config.Load(cfg); err != nil {
		t.Fatal(err)
	}
	r, err := app.Connect(t.Context(), "standalone", &cfg.Process, &cfg.Daemon, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	server, err := app.NewAPI(r, cfg.API())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("FUSILLADE_SERVER", "http://"+listener.Addr().String())
	testenv.Run(t, func(ctx context.Context) error { return server.Run(ctx, listener) })
	if answers == nil {
		return r
	}
	endpoint, err := mock.New(mock.Config{Settings: *answers, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(endpoint)
	t.Cleanup(upstream.Close)
	if err := cfg.Upstream.URL.Set(upstream.URL); err != nil {
		t.Fatal(err)
	}
	cfg.DrainTimeout = config.Milliseconds(100 * time.Millisecond)
	testenv.Run(t, func(ctx context.Context) error {
		return app.Standalone(ctx, context.Background(), r, cfg, nil)
	})
	return r
}
