package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
)

// Where calls go is waited for while the database is away.
func TestResolverWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	p, through := proxy.Postgres(t, c.DatabaseURL)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: through})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	r := Resources{Store: store, Conn: c.Conn, Log: testenv.Logger(t)}
	cfg := &c.settings.Upstream

	p.Cut()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := startResolver(short, r, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("startResolver without a database = %v, want the end of the time it was given", err)
	}
	p.Restore()
	endpoints, stop, err := startResolver(t.Context(), r, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if to, ok := endpoints.Resolve("m"); !ok || to.BaseURL == "" {
		t.Errorf("Resolve(m) = %v, %v, want the default", to.BaseURL, ok)
	}
}
