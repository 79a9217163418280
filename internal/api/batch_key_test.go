package api_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/seal"
)

const upstreamKey = "X-Upstream-Api-Key"

// keyed records the key of each call. It holds calls until it is opened, and
// refuses them if it is told to.
type keyed struct {
	open   chan struct{}
	mu     sync.Mutex
	keys   []string
	refuse bool
}

func (k *keyed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	k.mu.Lock()
	k.keys = append(k.keys, r.Header.Get("Authorization"))
	refuse := k.refuse
	k.mu.Unlock()
	select {
	case <-k.open:
	case <-r.Context().Done():
		return
	}
	if refuse {
		w.WriteHeader(http.StatusBadRequest)
	}
	_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"ok"}}]}`)
}

// take returns the keys of the calls since it was last asked, and says what
// later calls are answered.
func (k *keyed) take(refuse bool) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.keys
	k.keys, k.refuse = nil, refuse
	return keys
}

// newKeyring makes a keyring of one key, of which all bytes are the same.
func newKeyring(t testing.TB, fill byte) *seal.Keyring {
	t.Helper()
	keyring, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return keyring
}

// dump is all that the tables, the streams and the buckets hold.
func (s *service) dump() string {
	s.T.Helper()
	var out strings.Builder
	rows, err := s.DB.Query(s.T.Context(), `SELECT query_to_xml('SELECT * FROM ' || quote_ident(tablename), true, false, '')::text
  FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		s.T.Fatal(err)
	}
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			s.T.Fatal(err)
		}
		out.WriteString(text)
	}
	if err := rows.Err(); err != nil {
		s.T.Fatal(err)
	}
	js, err := jetstream.New(s.Resources.Conn)
	if err != nil {
		s.T.Fatal(err)
	}
	names := js.StreamNames(s.T.Context())
	for name := range names.Name() {
		stream, err := js.Stream(s.T.Context(), name)
		if err != nil {
			s.T.Fatal(err)
		}
		info := stream.CachedInfo().State
		for seq := info.FirstSeq; seq <= info.LastSeq; seq++ {
			if msg, err := stream.GetMsg(s.T.Context(), seq); err == nil { // else it is gone
				fmt.Fprintln(&out, msg.Subject, msg.Header, string(msg.Data))
			}
		}
	}
	return out.String()
}

// A batch's key is used for its calls and no others, is nowhere to be read, and
// is gone with the end of the batch; a retry brings it anew.
func TestBatchHasItsOwnKey(t *testing.T) {
	t.Parallel()
	const first, second = "sk-batch-secret-1", "sk-batch-secret-2"
	var log lockedBuffer
	logger := slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	keyring := newKeyring(t, 7)
	s := newService(t, func(c *api.Config) { c.Keyring, c.Log = keyring, logger })
	s.Resources.Keyring = keyring
	s.Set(&s.Settings.Upstream.APIKey, "sk-of-the-environment")
	s.Resources.Log = logger
	endpoint := &keyed{open: make(chan struct{})}
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	s.WorkAt(server.URL)
	c := s.client("alice")
	file := c.file(requests(3, "m"))
	endpoint.take(true)
	id := c.post("/batches", newBatch(file), upstreamKey, first, "Idempotency-Key", "once").want(t, http.StatusOK).text("id")
	c.post("/batches", newBatch(file), "Idempotency-Key", "once").wantError(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	until(t, "the calls are in flight", func() bool {
		endpoint.mu.Lock()
		defer endpoint.mu.Unlock()
		return len(endpoint.keys) == 3
	})
	if n := s.count(`SELECT count(*) FROM batch_keys`); n != 1 {
		t.Errorf("%d keys are stored", n)
	}
	clear := func(what, text string) {
		t.Helper()
		for _, secret := range []string{first, second} {
			for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(text, form) {
					t.Errorf("%s hold the key", what)
				}
			}
		}
	}
	held := s.dump()
	if !strings.Contains(held, "<sealed>") || !strings.Contains(held, "fusillade.requests.") {
		t.Fatal("the dump lacks keys or messages")
	}
	clear("tables and streams", held)
	close(endpoint.open)
	if a := c.awaitEnd(id); a.text("status") != "completed" || a.value("request_counts", "failed") != 3.0 {
		t.Errorf("batch %s", a.body)
	}
	wantKeys := func(secret string, calls int) {
		t.Helper()
		keys := endpoint.take(false)
		for _, k := range keys {
			if k != "Bearer "+secret {
				t.Errorf("a call had %q", k)
			}
		}
		if len(keys) != calls {
			t.Errorf("%d calls, want %d", len(keys), calls)
		}
	}
	wantKeys(first, 3)
	if n := s.count(`SELECT count(*) FROM batch_keys`); n != 0 {
		t.Errorf("%d keys are left", n)
	}

	rerun := "/batches/" + id + "/rerun"
	c.post(rerun, map[string]any{}).wantError(t, http.StatusBadRequest, "missing_parameter")
	batchID, err := batch.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Store.RerunRequests(t.Context(), batchID, batch.Allowance{}, batch.Failed); err == nil || !strings.Contains(err.Error(), "API key") {
		t.Errorf("retried without a key: %v", err)
	}
	c.post(rerun, map[string]any{"statuses": []string{"expired"}}, upstreamKey, second).wantError(t, http.StatusConflict, "nothing_to_retry")
	if n := s.count(`SELECT count(*) FROM batch_keys`); n != 0 {
		t.Error("a key was kept though nothing was retried")
	}
	// Single requests are no other matter.
	lines := map[string]any{"lines": []int{1}}
	c.post(rerun, lines).wantError(t, http.StatusBadRequest, "missing_parameter")
	c.post(rerun, map[string]any{"lines": []int{4}}, upstreamKey, second).wantError(t, http.StatusBadRequest, "invalid_value")
	if n := s.count(`SELECT count(*) FROM batch_keys`); n != 0 {
		t.Error("a key was kept though no line was retried")
	}
	if _, err := s.Store.RerunLines(t.Context(), batchID, batch.Allowance{}, []int32{1}); err == nil || !strings.Contains(err.Error(), "API key") {
		t.Errorf("a line was retried without a key: %v", err)
	}
	c.post(rerun, lines, upstreamKey, second).want(t, http.StatusOK)
	if status := c.awaitEnd(id).text("status"); status != "completed" {
		t.Errorf("status %s", status)
	}
	wantKeys(second, 1)
	c.post(rerun, lines, upstreamKey, second).want(t, http.StatusOK) // and unchanged
	if n := s.count(`SELECT count(*) FROM batch_keys`); n != 0 {
		t.Error("a key was kept though the line was left as it is")
	}

	c.post(rerun, map[string]any{}, upstreamKey, second).want(t, http.StatusOK)
	if status := c.awaitEnd(id).text("status"); status != "completed" {
		t.Errorf("status %s", status)
	}
	wantKeys(second, 2)

	other := c.batch(file)
	c.post("/batches/"+other+"/rerun", map[string]any{}, upstreamKey, second).wantError(t, http.StatusBadRequest, "invalid_value")
	c.awaitEnd(other)
	wantKeys("sk-of-the-environment", 3)
	clear("tables and streams", s.dump())
	clear("the logs", log.String())
	clear("error files", string(c.get("/batches/"+id+"/results").body))
}

// Without an encryption key, and with a bad key, the batch is refused.
func TestKeyIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	file := c.file(requests(1, "m"))
	c.post("/batches", newBatch(file), upstreamKey, "sk-x").wantError(t, http.StatusBadRequest, "encryption_not_configured")
	for _, bad := range []string{"", "two words", strings.Repeat("x", 5000), "ümlaut"} {
		c.post("/batches", newBatch(file), upstreamKey, bad).wantError(t, http.StatusBadRequest, "invalid_value")
	}
	if n := s.count(`SELECT count(*) FROM batches`); n != 0 {
		t.Errorf("%d batches", n)
	}
}

// A consumer that cannot decrypt the key makes no call: the requests wait, and
// complete in one that can.
func TestKeyOfAnotherConsumer(t *testing.T) {
	t.Parallel()
	keyring := newKeyring(t, 7)
	s := newService(t, func(c *api.Config) { c.Keyring = keyring })
	s.Resources.Keyring = newKeyring(t, 8)
	endpoint := &keyed{open: make(chan struct{})}
	close(endpoint.open)
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	work := s.Worker(server.URL)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	c := s.client("alice")
	id := c.post("/batches", newBatch(c.file(requests(2, "m"))), upstreamKey, "sk-x").want(t, http.StatusOK).text("id")
	until(t, "both wait", func() bool {
		return s.count(`SELECT count(*) FROM requests WHERE last_reason = 'credential_unavailable' AND state = 'pending'`) == 2
	})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if keys := endpoint.take(false); len(keys) > 0 {
		t.Errorf("calls were made with %q", keys)
	}
	s.Resources.Keyring = keyring
	s.WorkAt(server.URL)
	if status := c.awaitEnd(id).text("status"); status != "completed" {
		t.Errorf("status %s", status)
	}
}
