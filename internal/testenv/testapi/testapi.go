// Package testapi is what tests of the API and of its clients stand on: a migrated
// database and a broker of the test's own, the API on them, and daemons that call a
// mock endpoint.
package testapi

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/api"
	"fusillade/internal/app"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// System is one test's. It ends with the test.
type System struct {
	T                      testing.TB
	DatabaseURL, BrokerURL string // of the servers themselves
	Settings               config.Standalone
	Resources              app.Resources // connected by the settings
	Store                  *postgres.Store
	DB                     *pgxpool.Pool // to look at the tables themselves
	Endpoint               *mock.Server  // once Work has started it
}

// New connects, and starts nothing. change may give other settings before.
func New(t testing.TB, change func(*System)) *System {
	t.Helper()
	s := &System{T: t, DatabaseURL: testenv.DatabaseURL(t), BrokerURL: testenv.NATS(t).URL()}
	if err := config.Load(&s.Settings); err != nil {
		t.Fatal(err)
	}
	s.Set(&s.Settings.Postgres.URL, s.DatabaseURL)
	s.Set(&s.Settings.NATS.URL, s.BrokerURL)
	if change != nil {
		change(s)
	}
	var err error
	if s.Resources, err = app.Connect(t.Context(), "standalone", &s.Settings.Process, &s.Settings.Daemon, testenv.Logger(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Resources.Close)
	s.Store = s.Resources.Store
	if s.DB, err = pgxpool.New(t.Context(), s.DatabaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.DB.Close)
	return s
}

// Set changes a setting as the environment would.
func (s *System) Set(setting interface{ Set(string) error }, value string) {
	s.T.Helper()
	if err := setting.Set(value); err != nil {
		s.T.Fatal(err)
	}
}

// NewAPI is an API with the settings as they are now.
func (s *System) NewAPI() *api.Server {
	s.T.Helper()
	server, err := app.NewAPI(s.Resources, s.Settings.API())
	if err != nil {
		s.T.Fatal(err)
	}
	return server
}

// Serve runs an API until the end of the test, and returns its URL, without a path.
func (s *System) Serve(server *api.Server) string {
	s.T.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.T.Fatal(err)
	}
	testenv.Run(s.T, func(taking context.Context) error { return server.Run(taking, listener) })
	return "http://" + listener.Addr().String()
}

// Work starts a dispatcher and a consumer that call a mock endpoint.
func (s *System) Work(answers mock.Settings) {
	s.T.Helper()
	var err error
	if s.Endpoint, err = mock.New(mock.Config{Settings: answers, Seed: 1}); err != nil {
		s.T.Fatal(err)
	}
	server := httptest.NewServer(s.Endpoint)
	s.T.Cleanup(server.Close)
	s.WorkAt(server.URL)
}

// WorkAt starts a dispatcher and a consumer that call an endpoint.
func (s *System) WorkAt(url string) {
	s.T.Helper()
	testenv.Run(s.T, s.Worker(url))
}

// Worker is a dispatcher and a consumer with the settings as they are now, which
// repeat failed calls soon.
func (s *System) Worker(url string) func(context.Context) error {
	s.T.Helper()
	s.Set(&s.Settings.Upstream.URL, url)
	s.Settings.Backoff, s.Settings.MaxBackoff = config.Milliseconds(20*time.Millisecond), config.Milliseconds(200*time.Millisecond)
	settings, resources := s.Settings, s.Resources
	settings.DrainTimeout = config.Milliseconds(100 * time.Millisecond) // some endpoints hang
	return func(taking context.Context) error {
		return app.Standalone(taking, context.Background(), resources, &settings, nil)
	}
}

// Key makes a key of an owner, or of an operator.
func (s *System) Key(owner string, admin bool) string {
	s.T.Helper()
	token, hint, hash := api.NewToken()
	if _, err := s.Store.CreateAPIKey(s.T.Context(), postgres.APIKey{Owner: owner, Hint: hint, Admin: admin}, hash); err != nil {
		s.T.Fatal(err)
	}
	return token
}
