package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"fusillade/internal/batch"
	"fusillade/internal/seal"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type fixture struct {
	*testcluster.Database
	keyring *seal.Keyring
	secret  string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: testcluster.NewDatabase(t), secret: NewSecret()}
	f.keyring = f.newKeyring(1)
	return f
}

func (f *fixture) newKeyring(fill byte) *seal.Keyring {
	f.T.Helper()
	keyring, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeyBytes))
	if err != nil {
		f.T.Fatal(err)
	}
	return keyring
}

// event makes an endpoint of alice's and an event for it.
func (f *fixture) event(url string) { f.eventOf("alice", url) }

func (f *fixture) eventOf(owner, url string) {
	f.T.Helper()
	id, err := f.Store.CreateWebhook(f.T.Context(), owner, url, func(id string) ([]byte, error) {
		return f.keyring.Seal(seal.WebhookSecret(id, url), f.secret)
	})
	if err != nil {
		f.T.Fatal(err)
	}
	f.Exec(`INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id) VALUES (gen_random_uuid(), $1::uuid, 'batch.completed', gen_random_uuid())`, id)
}

// is reports whether the only event is as the condition says.
func (f *fixture) is(condition string) bool {
	f.T.Helper()
	var holds bool
	if err := f.DB.QueryRow(f.T.Context(), `SELECT COALESCE(bool_and(`+condition+`), false) FROM webhook_deliveries`).Scan(&holds); err != nil {
		f.T.Fatal(err)
	}
	return holds
}

func (f *fixture) until(what, condition string) {
	f.T.Helper()
	testenv.Eventually(f.T, what, func() bool { return f.is(condition) })
}

// run delivers until stop, or the end of the test.
func (f *fixture) run(change func(*Config)) (stop func()) {
	f.T.Helper()
	cfg := Config{Store: f.Store, Keyring: f.keyring, AllowPrivate: true, Log: testenv.Logger(f.T)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		f.T.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	f.T.Cleanup(stop)
	return stop
}

// receiver verifies what it gets as users of OpenAI's SDK do.
type receiver struct {
	t      *testing.T
	secret string
	mu     sync.Mutex
	status int
	ids    []string
	types  []string
	batch  string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	client := openai.NewClient(option.WithAPIKey("unused"), option.WithWebhookSecret(r.secret))
	e, err := client.Webhooks.Unwrap(body, req.Header)
	if err != nil {
		r.t.Errorf("unwrapping %s: %v", body, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.ID != req.Header.Get("webhook-id") || !strings.HasPrefix(e.ID, "evt_") || time.Since(time.Unix(e.CreatedAt, 0)).Abs() > time.Hour {
		r.t.Errorf("event %s", body)
	}
	r.ids, r.types, r.batch = append(r.ids, e.ID), append(r.types, e.Type), e.Data.ID
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, strings.Repeat("x", 200<<10)) // is not kept
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// An event is delivered again until it is taken, by the next sender if the
// first one ended, with the same id.
func TestDelivery(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := &receiver{t: t, secret: f.secret, status: http.StatusServiceUnavailable}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	f.event(server.URL + "/hook?token=sk-secret")
	stop := f.run(nil)
	f.until("the first attempt failed", `attempts = 1 AND last_status = 503 AND last_error = 'it answered with status 503'
   AND next_attempt_at BETWEEN now() - interval '1 minute' AND now() + interval '6 s'`)
	stop()
	r.answer(http.StatusNoContent)
	f.Exec(`UPDATE webhook_deliveries SET next_attempt_at = now()`)
	f.run(nil)
	f.until("it was delivered", `delivered_at IS NOT NULL AND next_attempt_at IS NULL AND last_status = 204 AND last_error IS NULL`)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) < 2 || r.ids[0] != r.ids[len(r.ids)-1] || r.types[0] != "batch.completed" {
		t.Errorf("ids %v, types %v", r.ids, r.types)
	}
	if _, err := batch.ParseID(r.batch); err != nil {
		t.Error(err)
	}
}

// What is not taken fails with words that hold nothing of the URL.
func TestFailures(t *testing.T) {
	t.Parallel()
	redirected := make(chan struct{}, 10)
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected <- struct{}{} }))
	t.Cleanup(target.Close)
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(hang.Close)
	redirect := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	t.Cleanup(redirect.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, test := range map[string]struct {
		url    string
		change func(*fixture, *Config)
		want   string
	}{
		"a redirect":        {url: redirect.URL, want: "status 307"},
		"loopback":          {url: target.URL, change: func(_ *fixture, c *Config) { c.AllowPrivate = false }, want: "private"},
		"loopback by name":  {url: strings.Replace(target.URL, "127.0.0.1", "localhost", 1), change: func(_ *fixture, c *Config) { c.AllowPrivate = false }, want: "private"},
		"nobody listens":    {url: closed.URL, want: "cannot be connected to"},
		"it hangs":          {url: hang.URL, change: func(_ *fixture, c *Config) { c.Timeout = 100 * time.Millisecond }, want: "in time"},
		"no encryption key": {url: target.URL, change: func(_ *fixture, c *Config) { c.Keyring = nil }, want: "no encryption key"},
		"another key":       {url: target.URL, change: func(f *fixture, c *Config) { c.Keyring = f.newKeyring(2) }, want: "another key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.event(test.url + "/?token=sk-secret")
			f.run(func(c *Config) {
				if test.change != nil {
					test.change(f, c)
				}
			})
			f.until("the attempt failed", `attempts = 1 AND delivered_at IS NULL AND last_error LIKE '%`+test.want+`%' AND last_error NOT LIKE '%token%'`)
		})
	}
	t.Cleanup(func() {
		if len(redirected) > 0 {
			t.Error("a request arrived that should not have")
		}
	})
}

// An endpoint that is down is a line, and later a count, not a line for each event.
func TestDownIsLoggedOnce(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(nil)
	closed.Close()
	f := newFixture(t)
	f.event(closed.URL)
	f.Exec(`INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id)
	        SELECT gen_random_uuid(), id, 'batch.completed', gen_random_uuid() FROM webhooks, generate_series(1, 40)`)
	var log strings.Builder // written under the handler's lock
	stop := f.run(func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	f.until("all attempts have failed", `attempts = 1 AND last_error IS NOT NULL`)
	stop()
	if lines := strings.Count(log.String(), "a webhook was not delivered"); lines != 2 || !strings.Contains(log.String(), "count=40") {
		t.Errorf("%d lines, want one for the first and one with the count of the others:\n%s", lines, log.String())
	}
}

// Endpoints of some owners that hang, however many, leave places for others' events.
func TestHangingEndpoints(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	done := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // so that the server notices when the sender leaves
		select {
		case <-done:
		case <-r.Context().Done():
		}
	}))
	defer hanging.Close()
	defer close(done)
	arrived := make(chan struct{}, 1)
	well := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived <- struct{}{} }))
	defer well.Close()
	const owners = 24
	for i := range 2 * perOwner {
		for owner := range owners {
			f.eventOf(fmt.Sprint("owner ", owner), fmt.Sprintf("%s/%d", hanging.URL, i))
		}
	}
	f.Exec(`UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 hour'`)
	f.run(func(cfg *Config) { cfg.Timeout = testenv.Patience })
	testenv.Eventually(t, "each owner has places", func() bool {
		var all, least, most int
		if err := f.DB.QueryRow(t.Context(), `
SELECT sum(n)::int, min(n), max(n) FROM (
       SELECT count(*) FILTER (WHERE attempts > 0)::int AS n
         FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id GROUP BY w.owner) o`).Scan(&all, &least, &most); err != nil {
			t.Fatal(err)
		}
		if most > perOwner || all >= concurrency {
			t.Fatalf("%d attempts at once, %d of one owner: want %d of one owner at most, and free places", all, most, perOwner)
		}
		return least > 0
	})
	f.eventOf("bob", well.URL)
	testenv.Receive(t, "another owner's event is delivered", arrived)
}

// After about a day no further attempt is made.
func TestGivingUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	f.event(closed.URL)
	f.Exec(`UPDATE webhook_deliveries SET attempts = $1`, len(backoffs))
	f.run(nil)
	f.until("it was given up", `next_attempt_at IS NULL AND delivered_at IS NULL AND last_error IS NOT NULL`)
	var day time.Duration
	for attempt := 1; pauseAfter(attempt) > 0; attempt++ {
		if b := backoffs[attempt-1]; pauseAfter(attempt) < b || float64(pauseAfter(attempt)) > float64(b)*(1+jitter) {
			t.Errorf("backoff %d is %v", attempt, pauseAfter(attempt))
		}
		day += backoffs[attempt-1]
	}
	if day < 20*time.Hour || day > 28*time.Hour {
		t.Errorf("it is given up after %v", day)
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "172.32.0.1": true,
		"127.0.0.1": false, "127.8.9.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"0.0.0.0": false, "0.1.2.3": false, "100.64.0.1": false, "192.0.0.8": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"::1": false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fd00::1": false, "ff02::1": false,
		"::ffff:127.0.0.1": false, "::ffff:8.8.8.8": true, "::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001::1": false,
	} {
		if got := public(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t, want %t", address, got, want)
		}
	}
	if refusePrivate("tcp", "what", nil) == nil {
		t.Error("an address that cannot be read was let through")
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for url, ok := range map[string]bool{
		"https://example.com/hook?x=1": true, "http://[2606:4700::1111]:8080": true,
		"": false, "example.com": false, "ftp://example.com": false, "https://": false, "https://u:p@example.com": false, "https://example.com/#x": false, "https://%": false,
	} {
		if err := CheckURL(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}
