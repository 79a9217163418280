package consume

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// weighing notes how much each flush carries.
type weighing struct {
	store
	started, finished atomic.Int64 // the most bytes of one call
}

func (s *weighing) Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error) {
	starts, err := s.store.Start(ctx, rules, deliveries)
	total := 0
	for _, st := range starts {
		total += len(st.Template.Body)
	}
	raise(&s.started, total)
	return starts, err
}

func (s *weighing) Finish(ctx context.Context, d batch.DaemonID, endings []postgres.Completion, returns []postgres.Release) (map[batch.RequestID]bool, error) {
	total := 0
	for _, e := range endings {
		total += len(e.Body)
	}
	raise(&s.finished, total)
	return s.store.Finish(ctx, d, endings, returns)
}

func raise(most *atomic.Int64, n int) {
	for old := most.Load(); int64(n) > old && !most.CompareAndSwap(old, int64(n)); old = most.Load() {
	}
}

// Large requests with large answers pass in flushes of bounded size.
func TestFlushesAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	// In proportion to the bound as the bodies of the largest files are: with
	// those this test alone would keep the machine busy for half a minute.
	const n, size, bound = 30, 64 << 10, 512 << 10
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: n}))
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) { _, _ = w.Write(c.body) })
	requests := lines(n, testModel)
	for i := range requests {
		requests[i].Body = []byte(testenv.ChatAnswer(strings.Repeat(string('a'+rune(i%26)), size-len(testenv.ChatAnswer("")))))
	}
	id := c.Begin(requests)
	until(t, "their messages wait", func() bool { return c.Queued() == n })
	w := &weighing{store: c.Store}
	r := c.startTuned(func(consumer *Consumer) {
		if consumer.flushBytes != flushBytes || consumer.finishes.maxBytes != flushBytes {
			t.Errorf("starts are bounded by %d bytes and results by %d, want %d", consumer.flushBytes, consumer.finishes.maxBytes, flushBytes)
		}
		consumer.flushBytes, consumer.finishes.maxBytes = bound, bound
	}, func(cfg *Config) { cfg.Store = w })
	results := c.AwaitEnd(id)
	for i := range n {
		if got := results[fmt.Sprintf("r%d", i)]; got.State != batch.Completed || !bytes.Equal(got.Body, requests[i].Body) {
			t.Fatalf("r%d is %s with %d bytes", i, got.State, len(got.Body))
		}
	}
	for what, most := range map[string]int64{"start": w.started.Load(), "flush of results": w.finished.Load()} {
		if most == 0 || most >= bound+size {
			t.Errorf("a %s carried %d bytes, want at most %d and one body", what, most, bound)
		}
	}
	until(t, "no bytes are in flight", func() bool { return r.inflight.count() == 0 })
	if r.inflight.bytes != 0 {
		t.Errorf("%d bytes are counted with nothing in flight", r.inflight.bytes)
	}
}

// deferring leaves out the bodies of the first start.
type deferring struct {
	store
	first atomic.Bool
	then  func()
}

func (s *deferring) Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error) {
	starts, err := s.store.Start(ctx, rules, deliveries)
	if err == nil && s.first.CompareAndSwap(false, true) {
		for i := range starts {
			starts[i] = postgres.Start{Verdict: postgres.Deferred}
		}
		s.then()
	}
	return starts, err
}

// With enough bodies in memory no more are fetched, and what was taken already
// is released.
func TestBodiesInHandAreBounded(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id := c.queue()
	var r *Consumer
	weigh := func(n int) {
		r.inflight.mu.Lock()
		defer r.inflight.mu.Unlock()
		r.inflight.bytes = n
	}
	c.startTuned(func(consumer *Consumer) { r = consumer }, func(cfg *Config) {
		cfg.Store = &deferring{store: cfg.Store, then: func() { weigh(maxBodies) }}
	})
	until(t, "it is released", func() bool {
		return c.Count(`SELECT count(*) FROM requests WHERE state = 'pending' AND delivery = 1 AND attempt = 0`) == 1
	})
	if room := r.room(); room != 0 {
		t.Errorf("room is %d with all memory used", room)
	}
	weigh(0)
	for customID, got := range c.AwaitEnd(id.Batch) {
		if calls := len(c.endpoint.of(customID)); calls != 1 || got.Attempts != 1 || got.State != batch.Completed {
			t.Errorf("%s is %s after %d calls and %d attempts, want one", customID, got.State, calls, got.Attempts)
		}
	}
}
