package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv/programs"
)

// Three consumers share one hold of a wrong key: it is shown with its cause and
// what to do, outlives a restart of all of them, is probed by one call at a time,
// and is lifted by an operator. Corrected, the batch completes without a rerun.
func TestClusterHoldsAWrongKey(t *testing.T) {
	t.Parallel()
	const n = 300
	c := newCluster(t, mock.Settings{})
	var wrong atomic.Bool
	var calls, atOnce, most atomic.Int64
	var mu sync.Mutex
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !wrong.Load() {
			c.mock.ServeHTTP(w, r)
			return
		}
		calls.Add(1)
		mu.Lock()
		most.Store(max(most.Load(), atOnce.Add(1)))
		mu.Unlock()
		defer atOnce.Add(-1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}`))
	}))
	t.Cleanup(endpoint.Close)
	wrong.Store(true)
	c.env = append(c.env, "FUSILLADE_UPSTREAM_URL="+endpoint.URL, "FUSILLADE_PROBE_INTERVAL_MS=200", "FUSILLADE_MAX_PROBE_INTERVAL_MS=1000")
	c.start("dispatcher")
	consumers := []*programs.Process{c.start("consumer"), c.start("consumer"), c.start("consumer")}
	id := c.createBatch(requests(t, n, "gpt-4"))
	shown := func(what string, args ...string) {
		t.Helper()
		poll(t, what, func() bool { return strings.Contains(c.run(args...), what) })
	}
	poll(t, "the endpoint refuses calls", func() bool { return calls.Load() > 0 })
	shown("unauthorized since", "models", "ls")
	shown("the model endpoint refuses the API key. Correct the API key", "batches", "get", id.String())
	shown("Incorrect API key provided", "batches", "errors", id.String())
	for _, p := range consumers {
		p.Kill()
	}
	most.Store(0)
	before := calls.Load()
	for range 3 {
		c.start("consumer")
	}
	poll(t, "it is probed after the restart", func() bool { return calls.Load() >= before+3 })
	if got := most.Load(); got > 1 {
		t.Errorf("%d probes at once", got)
	}
	if got := calls.Load(); got > 3*(20+10)+20 {
		t.Errorf("%d calls of a wrong key", got)
	}
	b := c.await(id, "it is read", func(postgres.Batch) bool { return true })
	if b.Counts.Done() != 0 || c.count(`SELECT count(*) FROM requests WHERE attempt > 0`) != 0 {
		t.Errorf("counts are %+v, want all requests to be whole", b.Counts)
	}
	wrong.Store(false)
	c.run("models", "lift", "gpt-4")
	if b := c.awaitEnd(id); b.Counts.Completed != n {
		t.Errorf("counts are %+v, want all completed", b.Counts)
	}
	c.check(id)
	if out := c.run("batches", "errors", id.String()); strings.Contains(out, "Incorrect") {
		t.Errorf("errors of a completed batch: %s", out)
	}
}
