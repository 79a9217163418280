package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

// Usage is that of the completed requests, by the model that was called, over
// all flushes; what is fenced, failed or retried adds nothing.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 5)
	other := newBatch(t, s, 1)
	used := func(d Delivery, u batch.Usage) Completion {
		e := completed(d)
		e.Usage = u
		return e
	}
	want := func(id batch.ID, want ...ModelUsage) {
		t.Helper()
		b, err := s.GetBatch(t.Context(), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.Usage); diff != "" {
			t.Errorf("usage (-want +got):\n%s", diff)
		}
		b.Usage = nil
		progress, err := s.GetProgress(t.Context(), id)
		if diff := cmp.Diff(b, progress); diff != "" || err != nil {
			t.Errorf("progress (-batch +progress): %v\n%s", err, diff)
		}
		check(t, s)
	}
	want(id)
	deliveries := started(t, s, d, id, 5)
	elsewhere := started(t, s, d, other, 1)
	sqlExec(t, s, `UPDATE requests SET routed_model = 'o1' WHERE batch_id = $1 AND line = 3`, [16]byte(id))
	lost := failed(deliveries[4])
	lost.Usage = batch.Usage{PromptTokens: 1000, CompletionTokens: 1000}
	first := used(deliveries[0], batch.Usage{PromptTokens: 10, CompletionTokens: 5, CachedTokens: 4, ReasoningTokens: 2})
	finish(t, s, d, first, used(elsewhere[0], batch.Usage{PromptTokens: 7, CompletionTokens: 1}), lost)
	finish(t, s, d, first) // again: its answer was lost
	want(id, ModelUsage{string(testModel), 10, 5, 4, 2})
	want(other, ModelUsage{string(testModel), 7, 1, 0, 0})
	finish(t, s, d,
		used(deliveries[1], batch.Usage{PromptTokens: 1, CompletionTokens: 2, CachedTokens: 1}),
		used(deliveries[2], batch.Usage{PromptTokens: 30, CompletionTokens: 40, ReasoningTokens: 9}),
		completed(deliveries[3]))
	all := []ModelUsage{{"o1", 30, 40, 0, 9}, {string(testModel), 11, 7, 5, 2}}
	want(id, all...)
	if n, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Failed); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	want(id, all...)
}

// However much an endpoint claims, the results are written.
func TestUsageBeyondMeasure(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 4)
	const most = 1<<63 - 1
	for _, delivery := range started(t, s, d, id, 4) {
		e := completed(delivery)
		e.Usage = batch.Usage{PromptTokens: most, CompletionTokens: most, CachedTokens: most, ReasoningTokens: most}
		if n := finish(t, s, d, e); n != 1 {
			t.Errorf("%d written", n)
		}
	}
	if c := counts(t, s, id); c.Completed != 4 {
		t.Errorf("counts %+v", c)
	}
}
