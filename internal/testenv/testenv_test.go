package testenv

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/migrations"
)

func TestMain(m *testing.M) { Main(m) }

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// server is that of this process.
func server(t testing.TB) *databaseServer {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs Postgres")
	}
	s, err := process.databases()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// databases counts the databases whose name starts with prefix.
func databases(t testing.TB, prefix string) int {
	t.Helper()
	var n int
	const q = `SELECT count(*) FROM pg_database WHERE starts_with(datname, $1)`
	if err := server(t).admin.QueryRow(testContext(t), q, prefix).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDatabasesAreMigratedAndApart(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("clone", func(t *testing.T) {
			t.Parallel()
			url := DatabaseURL(t)
			for _, s := range statuses(t, url) {
				if s.AppliedAt.IsZero() {
					t.Errorf("migration %s is not applied", s.Name)
				}
			}
			// Fails in all but one if they were the same database.
			if _, err := connect(t, url).Exec(testContext(t), `CREATE TABLE mine ()`); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEmptyDatabase(t *testing.T) {
	t.Parallel()
	for _, s := range statuses(t, EmptyDatabaseURL(t)) {
		if !s.AppliedAt.IsZero() {
			t.Errorf("migration %s is applied", s.Name)
		}
	}
}

func statuses(t testing.TB, url string) []migrations.Status {
	t.Helper()
	all, err := migrations.List(testContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no migrations")
	}
	return all
}

func TestDatabaseIsDropped(t *testing.T) {
	t.Parallel()
	server(t)
	var name string
	t.Run("test", func(t *testing.T) {
		// The connection outlives the test, as one that leaks would.
		cfg, err := pgx.ParseConfig(DatabaseURL(t))
		if err != nil {
			t.Fatal(err)
		}
		name = cfg.Database
		if databases(t, name) == 0 {
			t.Fatalf("database %s does not exist", name)
		}
		conn, err := pgx.ConnectConfig(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.PgConn().Conn().Close() })
	})
	if !strings.HasPrefix(name, namePrefix) || databases(t, name) != 0 {
		t.Errorf("database %q is still there", name)
	}
}

// A server that lasts, as FUSILLADE_TEST_DATABASE_URL names one.
func TestLastingServerIsLeftClean(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	main := server(t)
	for _, name := range []string{"fusillade_test_1000000000_killed_1", "fusillade_test_mine"} {
		if err := main.create(ctx, name, "template0"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := main.drop(context.WithoutCancel(ctx), name); err != nil {
				t.Error(err)
			}
		})
	}

	b, err := dialBackend(ctx, main.url.String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(ctx, b, "")
	if err != nil {
		t.Fatal(err)
	}
	if s.prefix == main.prefix {
		t.Errorf("two servers share the prefix %s", s.prefix)
	}
	if got := databases(t, s.prefix); got != 1 {
		t.Errorf("%d databases before the end, want the template", got)
	}
	if err := s.close(ctx); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]int{s.prefix: 0, "fusillade_test_1000000000_": 0, "fusillade_test_mine": 1} {
		if got := databases(t, name); got != want {
			t.Errorf("%d databases %s..., want %d", got, name, want)
		}
	}
}

// A template that another process has migrated is copied, and left to it.
func TestBorrowedTemplateIsLeft(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	main := server(t)
	b, err := dialBackend(ctx, main.url.String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(ctx, b, main.template)
	if err != nil {
		t.Fatal(err)
	}
	name := s.prefix + "1"
	if err := s.create(ctx, name, s.template); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, s.urlOf(name)).Exec(ctx, `SELECT id FROM batches`); err != nil {
		t.Error(err)
	}
	if got := databases(t, s.prefix); got != 1 {
		t.Errorf("%d databases, want the copy alone", got)
	}
	if err := errors.Join(s.drop(ctx, name), s.close(ctx)); err != nil {
		t.Error(err)
	}
	if databases(t, main.template) != 1 {
		t.Error("the template is gone")
	}
}

func TestConfiguredURLIsNotShown(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for _, configured := range []string{
		"postgres://u:" + secret + "@127.0.0.1:1/db",
		"postgres://u:" + secret + "/x@[::1/db",
		"host=127.0.0.1 port=1 password=" + secret,
	} {
		_, err := dialBackend(testContext(t), configured)
		if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), URLVariable) {
			t.Errorf("dialBackend = %v, want an error that names %s and not the password", err, URLVariable)
		}
	}
}

// An engine that takes connections and never answers must not hold the tests up.
func TestDockerEngineThatHangs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := ping(testContext(t), "tcp://"+l.Addr().String()); err == nil {
		t.Error("an engine that never answers passes for one that does")
	}
}

func TestNATSOutlivesRestart(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	n := NATS(t)
	reconnected := make(chan struct{}, 1)
	js, err := jetstream.New(Connect(t, n, nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} })))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reconnected:
	case <-ctx.Done():
		t.Fatal("the client does not reconnect")
	}
	if _, err := js.Stream(ctx, "S"); err != nil {
		t.Error(err)
	}
}

func TestLoggerOutlivesItsTest(t *testing.T) {
	t.Parallel()
	var log *slog.Logger
	t.Run("test", func(t *testing.T) {
		log = Logger(t)
		log.Debug("during the test")
	})
	log.Error("after the test")
}
