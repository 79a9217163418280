package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/loopback"
	"fusillade/internal/testenv/programs"
	"fusillade/internal/testenv/proxy"
)

// get returns the status, the Retry-After header and the body of a GET; status 0:
// nobody answers.
func get(ctx context.Context, url string) (status int, retryAfter, body string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		return 0, "", ""
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	if err != nil {
		return 0, "", ""
	}
	return response.StatusCode, response.Header.Get("Retry-After"), string(raw)
}

// starting is a process whose health is looked at.
type starting struct {
	*programs.Process
	admin string
}

// awaitReason waits until the process says that it is alive, and not ready for
// this reason.
func (s starting) awaitReason(t *testing.T, reason string) {
	t.Helper()
	last := ""
	defer func() {
		if t.Failed() {
			t.Logf("%s was last: %s", s.Name, last)
		}
	}()
	testenv.Eventually(t, s.Name+" waits and says: "+reason, func() bool {
		select {
		case <-s.Done():
			t.Fatalf("%s has ended; it printed:\n%s", s.Name, s.Tail())
		default:
		}
		alive, _, _ := get(t.Context(), s.admin+"/livez")
		ready, _, body := get(t.Context(), s.admin+"/readyz")
		last = body
		return alive == http.StatusOK && ready == http.StatusServiceUnavailable && strings.Contains(body, reason)
	})
}

// Everything starts before what it needs: each process says what it waits for,
// goes on as that comes, and does the work in the end. The API answers from the
// first moment.
func TestStartInAnyOrder(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	if _, err := c.db.Exec(t.Context(), `DROP SCHEMA public CASCADE; CREATE SCHEMA public`); err != nil {
		t.Fatal(err)
	}
	database, databaseURL := proxy.Postgres(t, c.databaseURL)
	broker, brokerURL := proxy.NATS(t, c.natsURL)
	database.Cut()
	broker.Cut()
	api := loopback.Addr(t)
	var all []starting
	for _, role := range []string{"dispatcher", "consumer", "api"} {
		admin := loopback.Addr(t)
		p := built.Start(t, append(c.env[:len(c.env):len(c.env)], "FUSILLADE_DATABASE_URL="+databaseURL, "FUSILLADE_NATS_URL="+brokerURL,
			"FUSILLADE_ADMIN_ADDR="+admin, "FUSILLADE_LISTEN_ADDR="+api), role)
		all = append(all, starting{p, "http://" + admin})
	}
	each := func(reason string) {
		t.Helper()
		for _, s := range all {
			s.awaitReason(t, reason)
		}
		if status, retryAfter, body := get(t.Context(), "http://"+api+"/v1/batches"); status != http.StatusServiceUnavailable || retryAfter == "" || !strings.Contains(body, `"unavailable"`) {
			t.Errorf("the API answers %d, Retry-After %q: %s", status, retryAfter, body)
		}
		for path, want := range map[string]int{"/livez": http.StatusOK, "/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
			if status, _, body := get(t.Context(), "http://"+api+path); status != want || strings.Contains(body, "waiting") {
				t.Errorf("%s of the API's port: %d %s", path, status, body)
			}
		}
	}
	each("waiting for Postgres")
	database.Restore()
	each("waiting for migrations")
	c.run("migrate", "up")
	each("waiting for NATS")
	broker.Restore()
	for _, s := range all {
		testenv.Eventually(t, s.Name+" is ready", func() bool {
			status, _, _ := get(t.Context(), s.admin+"/readyz")
			return status == http.StatusOK
		})
		if !strings.Contains(s.Log(), `"msg":"waiting for Postgres"`) {
			t.Errorf("%s did not log what it waited for", s.Name)
		}
	}
	c.server = "http://" + api
	c.env = append(c.env, "FUSILLADE_SERVER="+c.server)
	const n = 50
	if b := c.awaitEnd(c.createBatch(requests(t, n, "gpt-4"))); b.Counts.Completed != n {
		t.Errorf("%+v", b.Counts)
	}
	// A short absence is told to clients as one.
	database.Cut()
	testenv.Eventually(t, "the API says that it misses Postgres", func() bool {
		status, retryAfter, _ := get(t.Context(), c.server+"/v1/batches")
		if status == http.StatusInternalServerError {
			t.Fatal("status 500 while Postgres is away")
		}
		return status == http.StatusServiceUnavailable && retryAfter != ""
	})
	database.Restore()
	testenv.Eventually(t, "the API answers again", func() bool {
		status, _, _ := get(t.Context(), c.server+"/v1/batches")
		return status == http.StatusOK
	})
}

// What a process waits for may be a login: it is told, never with a password.
func TestStartWithAWrongLogin(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	admin := loopback.Addr(t)
	wrong := strings.Replace(c.databaseURL, "/fusillade_test_", "/nowhere_", 1)
	p := built.Start(t, append(c.env[:len(c.env):len(c.env)], "FUSILLADE_DATABASE_URL="+wrong, "FUSILLADE_ADMIN_ADDR="+admin), "consumer")
	s := starting{p, "http://" + admin}
	s.awaitReason(t, "SQLSTATE 3D000")
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(t); code != 0 {
		t.Errorf("exit code %d of a process that was told to stop while it waited", code)
	}
}

// The waiting has an end where one is set.
func TestStartupTimeout(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	p := built.Start(t, append(c.env[:len(c.env):len(c.env)], "FUSILLADE_NATS_URL=nats://"+loopback.Addr(t), "FUSILLADE_STARTUP_TIMEOUT_MS=1000"), "dispatcher")
	p.WantExit(t, 1, "FUSILLADE_STARTUP_TIMEOUT_MS", "NATS")
}

// Streams and buckets that vanish are made again by who needs them, at the start
// and later.
func TestStreamsThatVanish(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	js, err := jetstream.New(c.broker)
	if err != nil {
		t.Fatal(err)
	}
	d, k := c.start("dispatcher"), c.start("consumer")
	const n = 50
	c.awaitEnd(c.createBatch(requests(t, n, "gpt-4")))
	for _, bucket := range []string{"DAEMONS", "SLOTS"} {
		if err := js.DeleteKeyValue(t.Context(), bucket); err != nil {
			t.Fatal(err)
		}
	}
	if err := js.DeleteStream(t.Context(), "REQUESTS"); err != nil {
		t.Fatal(err)
	}
	if b := c.awaitEnd(c.createBatch(requests(t, n, "gpt-4"))); b.Counts.Completed != n {
		t.Errorf("%+v", b.Counts)
	}
	for _, p := range []*programs.Process{d, k} {
		select {
		case <-p.Done():
			t.Errorf("%s has ended", p.Name)
		default:
		}
		p.Sound(t)
	}
}

// A server with a Postgres from outside waits for it too.
func TestServeWaitsForItsPostgres(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	database, databaseURL := proxy.Postgres(t, c.databaseURL)
	database.Cut()
	admin := loopback.Addr(t)
	p := built.Start(t, programs.Environment("FUSILLADE_DATABASE_URL="+databaseURL, "FUSILLADE_ADMIN_ADDR="+admin), "fusillade", "serve",
		"--mock", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir())
	starting{p, "http://" + admin}.awaitReason(t, "waiting for Postgres")
	database.Restore()
	url := p.URL(t)
	testenv.Eventually(t, "it is ready", func() bool {
		status, _, _ := get(t.Context(), "http://"+admin+"/readyz")
		return status == http.StatusOK
	})
	if status, _, body := get(t.Context(), url+"/v1/batches"); status != http.StatusOK {
		t.Errorf("status %d: %s", status, body)
	}
	p.Signal(syscall.SIGTERM)
	_ = p.Exit(t)
}
