package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
	"fusillade/streams"
)

const oddModel = "meta-llama/Llama-3.1:8b instruct"

// Five models, one call in ten fails in a way worth a retry, one in a hundred
// for good: every request comes out exactly once.
func TestEveryRequestComesOutOnce(t *testing.T) {
	t.Parallel()
	const n, limit = 5000, 16
	c := newCluster(t, mock.Settings{Errors: "503=0.06,429=0.04,400=0.01", Ceilings: fmt.Sprintf("*=%d", limit)},
		fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", limit))
	for range 2 {
		c.start("dispatcher")
	}
	for range 3 {
		c.start("consumer")
	}
	id := c.createBatch(requests(t, n, "gpt-4", "gpt-4.mini", oddModel, "*", "model > other"))
	b := c.awaitEnd(id)
	if b.Counts.Failed == 0 || b.Counts.Completed+b.Counts.Failed != n {
		t.Errorf("counts are %+v, want some failed and all ended", b.Counts)
	}
	c.check(id)

	out := filepath.Join(t.TempDir(), "out.jsonl")
	p := c.start("fusillade", "batches", "results", id.String(), "-o", out)
	if code := p.Exit(t); code != 1 {
		t.Errorf("exit code %d of results with failures, want 1", code)
	}
	ids := customIDs(t, out, strings.TrimSuffix(out, ".jsonl")+".errors.jsonl")
	if len(ids) != n {
		t.Errorf("%d custom ids in the results, want %d", len(ids), n)
	}
	for model, s := range c.mock.Stats().Models {
		if s.PeakInFlight > limit || s.CeilingViolations > 0 {
			t.Errorf("model %q: peak %d calls in flight, %d refused, limit %d", model, s.PeakInFlight, s.CeilingViolations, limit)
		}
	}
}

// A consumer dies in the middle: the others finish its work, and nothing that
// was finished is called again.
func TestConsumerKilled(t *testing.T) {
	t.Parallel()
	const n, limit = 1500, 30
	c := newCluster(t, mock.Settings{Latency: "uniform:40ms-80ms"}, fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", limit))
	for range 2 {
		c.start("dispatcher")
	}
	victim := c.start("consumer")
	for range 2 {
		c.start("consumer")
	}
	id := c.createBatch(requests(t, n, "gpt-4", oddModel))
	c.await(id, "a third is done", func(b postgres.Batch) bool { return b.Counts.Done() > n/3 })
	victim.Kill()
	b := c.awaitEnd(id)
	if b.Counts.Completed != n {
		t.Errorf("counts are %+v, want all %d completed", b.Counts, n)
	}
	c.check(id)
	again := 0
	for customID, calls := range c.mock.CustomIDs() {
		if calls > 2 {
			t.Errorf("%s was called %d times", customID, calls)
		}
		if calls > 1 {
			again++
		}
	}
	// Of each model at most its limit was in flight, in all consumers together.
	if again > 2*limit {
		t.Errorf("%d requests were called again, at most %d were in flight", again, 2*limit)
	}
}

// Consumers that are told to stop finish what they call and hand the rest
// back: nothing is called twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	const n = 2000
	c := newCluster(t, mock.Settings{Latency: "uniform:20ms-80ms"}, "FUSILLADE_DEFAULT_MODEL_CONCURRENCY=40")
	dispatchers := []*programs.Process{c.start("dispatcher"), c.start("dispatcher")}
	consumers := []*programs.Process{c.start("consumer"), c.start("consumer"), c.start("consumer")}
	id := c.createBatch(requests(t, n, "gpt-4"))
	for i := range 3 {
		c.await(id, "some more are done", func(b postgres.Batch) bool { return b.Counts.Done() > int64(i+1)*n/8 })
		consumers[i].Signal(syscall.SIGTERM)
		if code := consumers[i].Exit(t); code != 0 {
			t.Errorf("exit code %d of a consumer that was told to stop", code)
		}
		consumers[i] = c.start("consumer")
		if i < len(dispatchers) {
			dispatchers[i].Signal(syscall.SIGTERM)
			if code := dispatchers[i].Exit(t); code != 0 {
				t.Errorf("exit code %d of a dispatcher that was told to stop", code)
			}
			dispatchers[i] = c.start("dispatcher")
		}
	}
	c.awaitEnd(id)
	c.check(id)
	for customID, calls := range c.mock.CustomIDs() {
		if calls != 1 {
			t.Errorf("%s was called %d times", customID, calls)
		}
	}
}

// A model's limit holds for all consumers together while it changes.
func TestLimitHoldsWhileItChanges(t *testing.T) {
	t.Parallel()
	const n = 20000 // more than is done before the test ends
	c := newCluster(t, mock.Settings{Latency: "uniform:5ms-30ms"}, "FUSILLADE_DEFAULT_MODEL_CONCURRENCY=8")
	c.start("dispatcher")
	for range 3 {
		c.start("consumer")
	}
	id := c.createBatch(requests(t, n, oddModel))
	for i, limit := range []int{8, 3, 24, 12, 1, 10} {
		if i > 0 {
			c.run("models", "set", oddModel, "--limit", fmt.Sprint(limit))
		}
		// Calls beyond a lower limit run to their end, with the slots they hold.
		c.awaitSlots(func(e slots.Entry) bool { return e.Limit == limit && e.Held() <= limit })
		c.mock.ResetStats()
		done := c.await(id, "it is read", func(postgres.Batch) bool { return true }).Counts.Done()
		c.await(id, "all slots were used and more is done", func(b postgres.Batch) bool {
			peak := c.mock.Stats().Models[oddModel].PeakInFlight
			if peak > int64(limit) {
				t.Fatalf("limit %d: %d calls were in flight", limit, peak)
			}
			return peak == int64(limit) && b.Counts.Done() >= done+20*int64(limit)
		})
	}
}

func (c *cluster) awaitSlots(holds func(slots.Entry) bool) {
	c.t.Helper()
	js, err := jetstream.New(c.broker, jetstream.WithDefaultTimeout(testenv.Patience))
	if err != nil {
		c.t.Fatal(err)
	}
	kv, err := js.KeyValue(c.t.Context(), streams.SlotsBucket)
	if err != nil {
		c.t.Fatal(err)
	}
	poll(c.t, "the slots have settled", func() bool {
		entries, err := slots.List(c.t.Context(), kv)
		if err != nil {
			c.t.Fatal(err)
		}
		return holds(entries[oddModel])
	})
}
