package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// upstream is an endpoint whose models each have their own way to answer.
type upstream struct {
	url string

	mu      sync.Mutex
	calls   map[string]int
	headers map[string]bool // of batch metadata, seen in any call
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{calls: make(map[string]int), headers: make(map[string]bool)}
	server := httptest.NewServer(http.HandlerFunc(u.answer))
	t.Cleanup(server.Close)
	u.url = server.URL
	return u
}

func (u *upstream) answer(w http.ResponseWriter, r *http.Request) {
	var body struct{ Model string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	u.mu.Lock()
	u.calls[body.Model]++
	n := u.calls[body.Model]
	for name := range r.Header {
		if rest, ok := strings.CutPrefix(strings.ToLower(name), "x-fusillade-batch-"); ok {
			u.headers[rest] = true
		}
	}
	u.mu.Unlock()
	switch {
	case body.Model == "hangs":
		<-r.Context().Done()
	case body.Model == "teapot", body.Model == "teapot-at-first" && n <= 2:
		w.WriteHeader(http.StatusTeapot)
	case body.Model == "down":
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(testenv.ChatAnswer("ok")))
}

var statusLine = regexp.MustCompile(`"time":"([^"]+)","level":"INFO","msg":"status"`)

// Settings do what they say, from the environment of the processes to what an
// endpoint sees and the tables hold. Each value differs from the default in
// the effect.
func TestSettings(t *testing.T) {
	t.Parallel()
	endpoint := newUpstream(t)
	c := newCluster(t, mock.Settings{}, "FUSILLADE_UPSTREAM_URL="+endpoint.url,
		"FUSILLADE_SHOULD_RETRY=418", "FUSILLADE_MAX_RETRIES=2", "FUSILLADE_TIMEOUT_MS=300",
		"FUSILLADE_BATCH_METADATA_FIELDS=endpoint", "FUSILLADE_CLAIM_BATCH_SIZE=3", "FUSILLADE_STATUS_LOG_INTERVAL_MS=50")
	c.start("dispatcher")
	many := c.createBatch(requests(t, 20, "fine"))
	poll(t, "requests are claimed ahead", func() bool { return c.count(`SELECT count(*) FROM requests`) >= 10 })
	if most := c.count(`SELECT max(n) FROM (SELECT count(*) AS n FROM requests GROUP BY claimed_at) AS claims`); most != 3 {
		t.Errorf("%d requests are claimed at once, want 3", most)
	}
	consumer := c.start("consumer")
	each := c.createBatch(requests(t, 5, "fine", "teapot", "teapot-at-first", "down", "hangs"))
	c.awaitEnd(many)
	c.awaitEnd(each)

	type end struct {
		State, Reason string
		Attempts      int
	}
	rows, err := c.db.Query(t.Context(), `
SELECT routed_model, state::text, COALESCE(reason, ''), attempts FROM results WHERE batch_id = $1`, [16]byte(each))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]end)
	var model string
	var e end
	if _, err := pgx.ForEachRow(rows, []any{&model, &e.State, &e.Reason, &e.Attempts}, func() error {
		got[model] = e
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]end{
		"fine":            {"completed", "", 1},
		"teapot":          {"failed", "retriable_http_status", 3},
		"teapot-at-first": {"completed", "", 3},
		"down":            {"failed", "non_retriable_http_status", 1},
		"hangs":           {"failed", "timeout", 3},
	}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	// With the default they would be two seconds apart.
	poll(t, "two status lines follow each other within a second", func() bool {
		var last time.Time
		for _, found := range statusLine.FindAllStringSubmatch(consumer.Log(), -1) {
			at, err := time.Parse(time.RFC3339Nano, found[1])
			if err != nil {
				t.Fatal(err)
			}
			if !last.IsZero() && at.Sub(last) < time.Second {
				return true
			}
			last = at
		}
		return false
	})
	endpoint.mu.Lock()
	defer endpoint.mu.Unlock()
	if calls := endpoint.calls["hangs"]; calls != 3 {
		t.Errorf("%d calls of a model that hangs, want 3", calls)
	}
	if headers := slices.Sorted(maps.Keys(endpoint.headers)); !slices.Equal(headers, []string{"endpoint"}) {
		t.Errorf("metadata headers %v, want that of the endpoint alone", headers)
	}
}
