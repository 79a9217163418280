package ui_test

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/api"
	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is the API with the dashboard, and daemons that call a mock endpoint.
type world struct {
	t        testing.TB
	url      string // of the server, without a path
	store    *postgres.Store
	db       *pgxpool.Pool
	settings config.Standalone
	daemons  app.Resources
}

// newWorld serves the API with keys, unless change says otherwise.
func newWorld(t testing.TB, change func(*config.Standalone)) *world {
	t.Helper()
	w := connect(t, change)
	checker.AtEnd(t, w.db)
	w.url = w.serve()
	return w
}

// connect returns a world that serves nothing yet.
func connect(t testing.TB, change func(*config.Standalone)) *world {
	t.Helper()
	w := &world{t: t}
	if err := config.Load(&w.settings); err != nil {
		t.Fatal(err)
	}
	database := testenv.DatabaseURL(t)
	w.set(&w.settings.Postgres.URL, database)
	w.set(&w.settings.NATS.URL, testenv.NATS(t).URL())
	w.set(&w.settings.Server.Auth, "keys")
	if change != nil {
		change(&w.settings)
	}
	var err error
	if w.daemons, err = app.Connect(t.Context(), "standalone", &w.settings.Process, &w.settings.Daemon, testenv.Logger(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.daemons.Close)
	w.store = w.daemons.Store
	if w.db, err = pgxpool.New(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.db.Close)
	return w
}

// serve runs one more process's API, and returns its URL.
func (w *world) serve() string {
	w.t.Helper()
	server, err := app.NewAPI(w.daemons, w.settings.API())
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(func(taking context.Context) error { return server.Run(taking, listener) })
	return "http://" + listener.Addr().String()
}

// run runs something until the end of the test.
func (w *world) run(f func(context.Context) error) { testenv.Run(w.t, f) }

// work starts a dispatcher and a consumer that call a mock endpoint.
func (w *world) work(answers mock.Settings) {
	w.t.Helper()
	endpoint, err := mock.New(mock.Config{Settings: answers, Seed: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewServer(endpoint)
	w.t.Cleanup(server.Close)
	w.set(&w.settings.Upstream.URL, server.URL)
	w.settings.Backoff, w.settings.MaxBackoff = config.Milliseconds(20*time.Millisecond), config.Milliseconds(200*time.Millisecond)
	settings, resources := w.settings, w.daemons
	settings.DrainTimeout = config.Milliseconds(100 * time.Millisecond)
	w.run(func(taking context.Context) error {
		return app.Standalone(taking, context.Background(), resources, &settings, nil)
	})
}

func (w *world) set(setting interface{ Set(string) error }, value string) {
	w.t.Helper()
	if err := setting.Set(value); err != nil {
		w.t.Fatal(err)
	}
}

// key makes a key of an owner.
func (w *world) key(owner string, admin bool) string {
	w.t.Helper()
	token, hint, hash := api.NewToken()
	if _, err := w.store.CreateAPIKey(w.t.Context(), postgres.APIKey{Owner: owner, Hint: hint, Admin: admin}, hash); err != nil {
		w.t.Fatal(err)
	}
	return token
}

// lines is a file of n requests.
func lines(n int, model, prompt string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":%q}]}}`+"\n", i+1, model, prompt)
	}
	return b.String()
}

// until waits for a condition, which it asks again and again.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	testenv.Until(t, testenv.Patience, what, holds)
}

// finished waits for the end of a batch.
func (w *world) finished(id string) {
	w.t.Helper()
	parsed, err := batch.ParseID(id)
	if err != nil {
		w.t.Fatal(err)
	}
	until(w.t, "batch "+id+" has finished", func() bool {
		b, err := w.store.GetBatch(w.t.Context(), parsed, nil)
		return err == nil && b.Status.Terminal()
	})
}
