package batch_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

var states = []batch.State{
	batch.Pending, batch.Claimed, batch.Processing, batch.Completed, batch.Failed, batch.Canceled, batch.Expired,
}

func TestStates(t *testing.T) {
	t.Parallel()
	terminal := []batch.State{batch.Completed, batch.Failed, batch.Canceled, batch.Expired}
	for _, s := range append(states, "", "unknown") {
		if got, want := s.Terminal(), slices.Contains(terminal, s); got != want {
			t.Errorf("%q.Terminal() = %v, want %v", s, got, want)
		}
		// Whatever is terminal may be rerun but a completed request: its answer was
		// paid for.
		if got, want := s.Rerunnable(), s.Terminal() && s != batch.Completed; got != want {
			t.Errorf("%q.Rerunnable() = %v, want %v", s, got, want)
		}
	}
}

func TestStatusTerminal(t *testing.T) {
	t.Parallel()
	for status, want := range map[batch.Status]bool{
		batch.StatusInProgress: false, batch.StatusCompleted: true, batch.StatusFailed: true,
		batch.StatusCancelled: true, batch.StatusExpired: true,
	} {
		if got := status.Terminal(); got != want {
			t.Errorf("%q.Terminal() = %v, want %v", status, got, want)
		}
	}
}

func TestCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<40)
		c := batch.Counts{
			Pending: n.Draw(t, "pending"), InProgress: n.Draw(t, "in progress"), Completed: n.Draw(t, "completed"),
			Failed: n.Draw(t, "failed"), Canceled: n.Draw(t, "canceled"), Expired: n.Draw(t, "expired"),
		}
		c.Total = c.Pending + c.InProgress + c.Completed + c.Failed + c.Canceled + c.Expired
		if got := c.Done(); got != c.Total-c.Pending-c.InProgress {
			t.Errorf("%+v: Done() = %d", c, got)
		}
	})
}
