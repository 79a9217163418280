package e2e

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"fusillade/internal/embedded"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
	"fusillade/migrations"
)

// Who connects: the daemons, the API, and the operator's command line.
var roles = []string{"dispatcher", "consumer", "api", "operator"}

// secured is a database and a broker that speak TLS with clients whose
// certificates one private authority signed, and that allow each role what the
// files in deploy/ say. What they refuse is kept.
type secured struct {
	t        *testing.T
	pki      *authority
	database string // host:port
	broker   string // URL
	admin    *pgxpool.Pool
	refused  refusals
	natsUser map[string]*natsserver.Permissions // by name, of the configuration
	used     subjects
}

// subjects are what clients of the broker published and subscribed to.
type subjects struct {
	mu   sync.Mutex
	seen map[string]map[string]bool // by role and verb, such as "api PUB"
}

var traced = regexp.MustCompile(`:go:fusillade-(\w+)@.* - <<- \[H?(PUB|SUB) (\S+)`)

func (u *subjects) see(line string) {
	found := traced.FindStringSubmatch(line)
	if found == nil {
		return
	}
	key := found[1] + " " + found[2]
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.seen[key] == nil {
		u.seen[key] = make(map[string]bool)
	}
	u.seen[key][found[3]] = true
}

// matching reports whether the pattern allowed anything.
func (u *subjects) matching(key, pattern string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for subject := range u.seen[key] {
		if natsserver.SubjectsCollide(subject, pattern) {
			return true
		}
	}
	return false
}

// refusals are what the servers' logs say about missing permissions.
type refusals struct {
	mu      sync.Mutex
	lines   []string
	stopped bool
}

var refusal = regexp.MustCompile(`(?i)permission denied|must be owner|Violation|Authorization|authentication`)

func (r *refusals) see(line string) {
	if !refusal.MatchString(line) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped && !slices.Contains(r.lines, line) {
		r.lines = append(r.lines, line)
	}
}

func (r *refusals) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = nil
}

// stop returns what was refused, once.
func (r *refusals) stop() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines, r.stopped = nil, true
	return lines
}

// newSecured starts both servers. natsConfig says who the broker's users are.
func newSecured(t *testing.T, natsConfig string) *secured {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("it needs all of 127.0.0.0/8")
	}
	s := &secured{t: t, pki: newAuthority(t)}
	s.startPostgres()
	s.startNATS(natsConfig)
	return s
}

// startPostgres starts a server that takes TLS connections only. Its superuser
// runs deploy/postgres/roles.sql, and the owner the migrations and
// deploy/postgres/grants.sql.
func (s *secured) startPostgres() {
	s.t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
	s.database = host + ":5432"
	ctx, cancel := context.WithTimeout(s.t.Context(), testenv.Patience)
	defer cancel()
	server, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{
		DataDir: shortDir(s.t), CacheDir: filepath.Join(os.TempDir(), "fusillade-test-cache"),
		Settings: map[string]string{
			"listen_addresses": host, "fsync": "off", "shared_buffers": "64MB",
			"log_min_messages": "error", "log_min_error_statement": "error", "log_error_verbosity": "default", "log_line_prefix": "%u ",
		},
		Log: slog.New(slog.NewTextHandler(eachWrite(s.refused.see), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			s.t.Error(err)
		}
	})
	if s.admin, err = pgxpool.New(ctx, server.URL()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.admin.Close)

	var data string
	if err := s.admin.QueryRow(ctx, `SHOW data_directory`).Scan(&data); err != nil {
		s.t.Fatal(err)
	}
	own := s.pki.certificate("server", host)
	for name, from := range map[string]string{"server.crt": own.cert, "server.key": own.key, "ca.crt": s.pki.file} {
		s.give(data, name, read(s.t, from))
	}
	s.give(data, "pg_hba.conf", "local all all trust\n"+
		"hostssl all fusillade_api all scram-sha-256 clientcert=verify-ca\n"+
		"hostssl all all all cert\n")
	for _, setting := range []string{"ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'", "ssl_ca_file = 'ca.crt'", "ssl = on"} {
		s.exec(server.URL(), `ALTER SYSTEM SET `+setting)
	}
	s.exec(server.URL(), read(s.t, "../deploy/postgres/roles.sql"))
	s.exec(server.URL(), `ALTER ROLE fusillade_api PASSWORD 'of the api'`)
	s.exec(server.URL(), `SELECT pg_reload_conf()`)
	testenv.Eventually(s.t, "the owner can connect and migrate", func() bool {
		return migrations.Up(ctx, s.databaseURL("owner")) == nil
	})
	s.exec(s.databaseURL("owner"), read(s.t, "../deploy/postgres/grants.sql"))
	s.refused.forget() // of the server that was not configured yet
}

// wantNothingRefused fails the test if a server missed a permission so far. What
// it refuses afterwards is not looked at.
func (s *secured) wantNothingRefused() {
	s.t.Helper()
	for _, line := range s.refused.stop() {
		s.t.Errorf("refused: %s", line)
	}
}

// exec runs statements that have no parameters.
func (s *secured) exec(databaseURL, statements string) {
	s.t.Helper()
	if err := execute(s.t.Context(), databaseURL, statements); err != nil {
		s.t.Fatal(err)
	}
}

func execute(ctx context.Context, databaseURL, statements string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	return err
}

// give writes a file that the server's user owns.
func (s *secured) give(dir, name, content string) {
	s.t.Helper()
	path := filepath.Join(dir, name)
	err := os.WriteFile(path, []byte(content), 0o600)
	if info, statErr := os.Stat(dir); err == nil && statErr == nil && os.Getuid() == 0 {
		err = os.Chown(path, int(info.Sys().(*syscall.Stat_t).Uid), -1)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// databaseURL is how a role connects: with its certificate, and the API with a
// password besides.
func (s *secured) databaseURL(role string) string {
	own := s.pki.certificate("fusillade_"+role, "")
	u := url.URL{Scheme: "postgres", User: url.User("fusillade_" + role), Host: s.database, Path: "/fusillade", RawQuery: url.Values{
		"sslmode": {"verify-full"}, "sslrootcert": {s.pki.file}, "sslcert": {own.cert}, "sslkey": {own.key},
	}.Encode()}
	if role == "api" {
		u.User = url.UserPassword("fusillade_api", "of the api")
	}
	return u.String()
}

// startNATS starts a server with the configuration, for clients with a
// certificate of the authority.
func (s *secured) startNATS(config string) {
	s.t.Helper()
	own := s.pki.certificate("nats", "127.0.0.1")
	file := filepath.Join(s.t.TempDir(), "nats.conf")
	config += fmt.Sprintf("\nlisten: 127.0.0.1:-1\njetstream { store_dir: %q }\n"+
		"tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", s.t.TempDir(), own.cert, own.key, s.pki.file)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	options, err := natsserver.ProcessConfigFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, false
	server, err := natsserver.NewServer(options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.natsUser, s.used.seen = make(map[string]*natsserver.Permissions), make(map[string]map[string]bool)
	for _, user := range options.Users {
		s.natsUser[user.Username] = user.Permissions
	}
	server.SetLoggerV2(natsLog{s.refused.see, s.used.see}, false, true, false)
	server.Start()
	s.t.Cleanup(func() {
		server.Shutdown()
		server.WaitForShutdown()
	})
	if !server.ReadyForConnections(testenv.Patience) {
		s.t.Fatal("NATS is not ready")
	}
	s.broker = server.ClientURL()
}

// natsLog passes on what a server complains about, and what clients send.
type natsLog struct{ see, trace func(string) }

func (natsLog) Noticef(string, ...any)           {}
func (natsLog) Debugf(string, ...any)            {}
func (l natsLog) Warnf(format string, v ...any)  { l.see(fmt.Sprintf(format, v...)) }
func (l natsLog) Fatalf(format string, v ...any) { l.see(fmt.Sprintf(format, v...)) }
func (l natsLog) Errorf(format string, v ...any) { l.see(fmt.Sprintf(format, v...)) }
func (l natsLog) Tracef(format string, v ...any) { l.trace(fmt.Sprintf(format, v...)) }

// eachWrite is a writer that passes on each write.
type eachWrite func(string)

func (l eachWrite) Write(p []byte) (int, error) {
	l(string(p))
	return len(p), nil
}

// cluster is what the roles have in common, for the endpoint.
func (s *secured) cluster(answers mock.Settings, settings ...string) *cluster {
	s.t.Helper()
	endpoint, err := mock.New(mock.Config{Settings: answers, Seed: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(endpoint)
	s.t.Cleanup(server.Close)
	adminURL := s.admin.Config().ConnString()
	store, err := postgres.Open(s.t.Context(), postgres.Config{URL: adminURL})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	env := programs.Environment(
		"FUSILLADE_NATS_URL="+s.broker, "FUSILLADE_NATS_CA="+s.pki.file, "FUSILLADE_UPSTREAM_URL="+server.URL,
		"FUSILLADE_BACKOFF_MS=50", "FUSILLADE_MAX_BACKOFF_MS=400",
		"FUSILLADE_HEARTBEAT_INTERVAL_MS=1000", "FUSILLADE_STALE_DAEMON_THRESHOLD_MS=6000",
		"FUSILLADE_DATABASE_MAX_CONNS=6")
	return &cluster{t: s.t, env: append(env, settings...), store: store, db: s.admin, mock: endpoint}
}

// as is the cluster with the credentials of a role; extra are those for NATS
// beside its certificate.
func (s *secured) as(c *cluster, role string, extra ...string) *cluster {
	own := s.pki.certificate(role, "")
	with := *c
	with.env = append(slices.Clone(c.env), "FUSILLADE_DATABASE_URL="+s.databaseURL(role), "FUSILLADE_NATS_CERT="+own.cert, "FUSILLADE_NATS_KEY="+own.key)
	with.env = append(with.env, extra...)
	return &with
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// shortDir is a directory whose path is short enough for one of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fsecured-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
