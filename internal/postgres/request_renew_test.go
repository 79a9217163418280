package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

// A start is renewed for the delivery and daemon that process the request, and
// keeps it from being taken over past the processing timeout.
func TestRenewStarts(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d, other := newDaemon(t, s), newDaemon(t, s)
	id := newBatch(t, s, 6)
	in := started(t, s, d, id, 5)
	if n := finish(t, s, d, completed(in[1])); n != 1 {
		t.Fatalf("%d finished, want 1", n)
	}
	if _, err := s.exec(t.Context(), `UPDATE requests SET started_at = now() - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	in[2].Claim++
	in[3].Number++
	claimedOnly := claimed(t, s, id, 1)
	renewed, err := s.RenewStarts(t.Context(), d, append(in, claimedOnly...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[batch.RequestID]bool{in[0].ID: true, in[4].ID: true}, renewed); diff != "" {
		t.Errorf("renewed (-want +got):\n%s", diff)
	}
	if renewed, err := s.RenewStarts(t.Context(), other, in[:1]); err != nil || len(renewed) != 0 {
		t.Errorf("by another daemon: %v, %v", renewed, err)
	}
	r := rules(other)
	r.ProcessingTimeout = time.Minute
	next := []Delivery{in[0], in[3]}
	next[0].Number++
	for i, got := range start(t, s, r, next...) {
		if want := []Verdict{Busy, Started}[i]; got.Verdict != want {
			t.Errorf("start of request %d by another daemon: %v, want %v", i, got.Verdict, want)
		}
	}
}
