package app

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/config"
	"fusillade/internal/control"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

func (c *cluster) operator() *control.Controller {
	c.T.Helper()
	o, err := control.New(control.Config{Store: c.Store, Conn: c.Conn, Log: testenv.Logger(c.T)})
	if err != nil {
		c.T.Fatal(err)
	}
	return o
}

// A batch is cancelled at full speed. What its consumers still write changes
// nothing, others are not held up, and a retry completes it.
func TestCancelAndRetryOfARunningBatch(t *testing.T) {
	t.Parallel()
	const n = 1000
	c := newCluster(t, mock.Settings{Latency: "uniform:2ms-20ms"})
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	o := c.operator()
	id := c.begin("cancelled", n, "gpt-4", "llama")
	c.awaitDone(id, 100)
	b, err := o.Cancel(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if b.Status != batch.StatusCancelled || b.Counts.Done() != n || b.Counts.Canceled == 0 {
		t.Fatalf("cancelled: %+v", b)
	}
	after, err := checker.Snapshot(t.Context(), c.DB, id)
	if err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(c.begin("next", 300, "gpt-4", "llama"))
	if err := after.Unchanged(t.Context(), c.DB); err != nil {
		t.Error(err)
	}
	if now := c.Batch(id).Counts; now != b.Counts {
		t.Errorf("counts were %+v and are %+v", b.Counts, now)
	}
	if retried, err := o.Rerun(t.Context(), id, batch.Allowance{}, batch.Canceled); err != nil || int64(retried) != b.Counts.Canceled {
		t.Errorf("%d retried of %d, %v", retried, b.Counts.Canceled, err)
	}
	c.awaitEnd(id)
	if err := after.Unchanged(t.Context(), c.DB); err != nil {
		t.Error(err)
	}
	c.calledAtMost(2)
}

// Requests that failed for good are retried: their attempts begin again, and
// no call bears an idempotency key for the second time.
func TestRetryOfFailedRequests(t *testing.T) {
	t.Parallel()
	const n = 60
	c := newCluster(t, mock.Settings{})
	var mu sync.Mutex
	keys, calls := make(map[string]int), make(map[string]int)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		custom := r.Header.Get("X-Fusillade-Custom-Id")
		keys[r.Header.Get("Idempotency-Key")]++
		if attempt := r.Header.Get("X-Fusillade-Attempt"); attempt != "0" {
			t.Errorf("%s: attempt %s", custom, attempt)
		}
		if calls[custom]++; calls[custom] < 3 {
			w.WriteHeader(http.StatusBadRequest)
		}
		_, _ = w.Write([]byte(testenv.ChatAnswer("ok")))
	}))
	t.Cleanup(endpoint.Close)
	c.set(&c.settings.Upstream.URL, endpoint.URL)
	c.start("standalone")
	id := c.begin("failing", n, "gpt-4")
	for range 2 {
		testenv.Eventually(t, "the batch has failed", func() bool { return c.Batch(id).Status == batch.StatusFailed })
		if retried, err := c.operator().Rerun(t.Context(), id, batch.Allowance{}, batch.Failed); err != nil || retried != n {
			t.Fatalf("%d retried, %v", retried, err)
		}
	}
	c.awaitEnd(id)
	mu.Lock()
	defer mu.Unlock()
	if len(keys) != 3*n {
		t.Errorf("%d idempotency keys in %d calls", len(keys), 3*n)
	}
}

// The deadline passes while a batch runs: calls in flight end as they do, the
// rest expires, and the batch with the last of them.
func TestDeadlineOfARunningBatch(t *testing.T) {
	t.Parallel()
	const n = 3000
	c := newCluster(t, mock.Settings{Latency: "uniform:10ms-60ms"})
	c.start("standalone", func(s *config.Standalone) { s.CancellationPollInterval = ms(20) })
	id := c.begin("late", n, "gpt-4")
	c.awaitDone(id, 50)
	if _, err := c.DB.Exec(t.Context(), `UPDATE batches SET expires_at = now()`); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the batch has expired", func() bool { return c.Batch(id).Status == batch.StatusExpired })
	b := c.Batch(id)
	if b.Counts.Expired == 0 || b.Counts.Completed < 50 || b.Counts.Completed+b.Counts.Expired != n || b.FinishedAt.IsZero() {
		t.Errorf("expired: %+v", b)
	}
}

// A cluster on the database of a job of fusillade run leaves it to that.
func TestJobsAreLeftToRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	job, other := c.begin("job", 3, "m"), c.begin("other", 3, "m")
	c.Exec(`INSERT INTO jobs (batch_id, input, endpoint) VALUES ($1, 'in.jsonl', 'http://elsewhere')`, [16]byte(job))
	c.start("dispatcher")
	c.start("consumer")
	c.awaitEnd(other)
	if b := c.Batch(job); b.Counts.Pending != 3 {
		t.Errorf("of the job %+v", b.Counts)
	}
}
