package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

func TestRecover(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 10)
	deliveries := claimed(t, s, id, 8)
	start(t, s, rules(d), deliveries[1:7]...) // line 1 is claimed, 8 too
	finish(t, s, d, completed(deliveries[1]), failed(deliveries[2]))
	if _, err := s.Finish(t.Context(), d, nil, []Release{
		{Delivery: deliveries[3], Retry: true, Delay: time.Hour}, // line 4 is in backoff
		{Delivery: deliveries[4], Retry: true},                   // line 5 is to be started at once
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.ReleaseClaims(t.Context(), []ClaimedRequest{{ID: deliveries[7].ID, Claim: 1}}, time.Hour); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	results, err := checker.Snapshot(t.Context(), s.pool, id)
	if err != nil {
		t.Fatal(err)
	}

	for _, want := range []int{5, 0} { // lines 1, 4, 5, 6, 7
		if n, err := s.Recover(t.Context()); err != nil || n != want {
			t.Errorf("%d recovered, %v, want %d", n, err, want)
		}
	}
	check(t, s)
	if err := results.Unchanged(t.Context(), s.pool); err != nil {
		t.Error(err)
	}
	wantErr(t, s.Heartbeat(t.Context(), d, Progress{}), batch.ErrDaemonDead)
	for i, st := range start(t, s, rules(newDaemon(t, s)), redelivered(deliveries)...) {
		if st.Verdict != Stale {
			t.Errorf("an old message of line %d: verdict %d", i+1, st.Verdict)
		}
	}
	if n := finish(t, s, d, endings(completed, deliveries)...); n != 0 {
		t.Errorf("%d results written by a daemon of the past", n)
	}
	got, err := s.claimAnyDue(t.Context(), testModel, 100, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(map[int32]int)
	for _, r := range got {
		lines[r.ID.Line] = r.Attempt
	}
	if diff := cmp.Diff(map[int32]int{1: 0, 5: 1, 6: 0, 7: 0}, lines); diff != "" {
		t.Errorf("attempts of the lines that are due (-want +got):\n%s", diff)
	}
	// A backoff goes on, and so does a delay.
	n := sqlInt(t, s, `SELECT count(*) FROM requests WHERE line IN (4, 8) AND due_at > now() + interval '59 min'`)
	if n != 2 {
		t.Errorf("%d of 2 still wait", n)
	}
	check(t, s)
}

func redelivered(deliveries []Delivery) []Delivery {
	out := make([]Delivery, len(deliveries))
	for i, d := range deliveries {
		d.Number++
		out[i] = d
	}
	return out
}
