package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestLive(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d, other := newDaemon(t, s), newDaemon(t, s)
	id := newBatch(t, s, 9)
	in := claimed(t, s, id, 9)
	start(t, s, rules(d), in[1:]...)
	if n := finish(t, s, d, completed(in[2])); n != 1 {
		t.Fatalf("%d finished, want 1", n)
	}
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: in[3], Retry: true}}); err != nil {
		t.Fatal(err)
	}
	unclaimed := []ClaimedRequest{{ID: in[4].ID, Claim: 1, Delivery: 1}, {ID: in[5].ID, Claim: 1, Delivery: 1}}
	if n, err := s.ReleaseClaims(t.Context(), unclaimed[:1], 0); err != nil || n != 1 {
		t.Fatalf("%d released, %v", n, err)
	}
	if again, err := s.claimAnyDue(t.Context(), testModel, 1, nil); err != nil || len(again) != 1 {
		t.Fatalf("claimed again: %v, %v", again, err)
	}
	if n, err := s.ReleaseClaims(t.Context(), unclaimed[1:], 0); err != nil || n != 1 {
		t.Fatalf("%d released, %v", n, err)
	}
	silence(t, s, d)
	later := in[6]
	later.Number = 2
	start(t, s, rules(other), later)
	unknown := Delivery{ID: batch.RequestID{Batch: id, Line: 1000}, Claim: 1, Number: 1}

	hand := append([]Delivery{unknown}, in...)
	got, err := s.CheckLiveness(t.Context(), hand)
	if err != nil {
		t.Fatal(err)
	}
	want := []Liveness{
		Ended, // no such request
		Live,  // claimed, its start is on the way
		Live,  // processing
		Ended, // completed
		Live,  // returned by the one who asks
		Ended, // claimed anew
		Ended, // waits for a claim
		Taken, // by another daemon
		Live, Live,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fates (-want +got):\n%s", diff)
	}
	if got, err := s.CheckLiveness(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	check(t, s)
}
