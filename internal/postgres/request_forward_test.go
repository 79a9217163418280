package postgres

import (
	"testing"
	"time"

	"fusillade/internal/batch"
)

// What waits in Postgres until a hold would have ended is due once it is lifted, of
// one batch or of all; what waits in the stream is the stream's.
func TestBringForward(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	one, other := newBatch(t, s, 3), newBatch(t, s, 3)
	for _, id := range []batch.ID{one, other} {
		deliveries := started(t, s, d, id, 3)
		later := []Release{{Delivery: deliveries[0], Delay: time.Hour, Due: true}, {Delivery: deliveries[1], Delay: time.Hour, Due: true}, {Delivery: deliveries[2], Delay: time.Hour}}
		if _, err := s.Finish(t.Context(), d, nil, later); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		model batch.Model
		only  batch.ID
		want  int
	}{
		{"another", batch.ID{}, 0}, {testModel, one, 2}, {testModel, one, 0}, {testModel, batch.ID{}, 2}, {testModel, batch.ID{}, 0},
	} {
		if n, err := s.BringForward(t.Context(), step.model, step.only); err != nil || n != step.want {
			t.Errorf("of %q, batch %s: %d were brought forward, %v; want %d", step.model, step.only, n, err, step.want)
		}
	}
	due, err := s.claimAnyDue(t.Context(), testModel, 10, nil)
	if err != nil || len(due) != 4 {
		t.Errorf("%d are due, %v", len(due), err)
	}
	check(t, s)
}
