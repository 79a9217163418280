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

func TestStateMoves(t *testing.T) {
	t.Parallel()
	legal := map[batch.State][]batch.State{
		batch.Pending:    {batch.Claimed, batch.Processing, batch.Canceled, batch.Expired},
		batch.Claimed:    {batch.Pending, batch.Processing, batch.Canceled, batch.Expired},
		batch.Processing: {batch.Pending, batch.Processing, batch.Completed, batch.Failed, batch.Canceled, batch.Expired},
		// A retry by a user.
		batch.Failed:   {batch.Pending},
		batch.Canceled: {batch.Pending},
		batch.Expired:  {batch.Pending},
	}
	for _, from := range append(states, "", "unknown") {
		for _, to := range append(states, "", "unknown") {
			if got, want := from.CanMove(to), slices.Contains(legal[from], to); got != want {
				t.Errorf("%q to %q: CanMove = %v, want %v", from, to, got, want)
			}
		}
	}
}

func TestTerminalStates(t *testing.T) {
	t.Parallel()
	terminal := []batch.State{batch.Completed, batch.Failed, batch.Canceled, batch.Expired}
	for _, s := range append(states, "", "unknown") {
		if got, want := s.Terminal(), slices.Contains(terminal, s); got != want {
			t.Errorf("%q.Terminal() = %v, want %v", s, got, want)
		}
		// The only way out of a terminal state is back to the start.
		for _, next := range states {
			if s.Terminal() && s.CanMove(next) && next != batch.Pending {
				t.Errorf("%q is terminal and moves to %q", s, next)
			}
		}
	}
}

func TestStatusFinal(t *testing.T) {
	t.Parallel()
	for status, want := range map[batch.Status]bool{
		batch.StatusInProgress: false, batch.StatusCompleted: true, batch.StatusFailed: true,
		batch.StatusCancelled: true, batch.StatusExpired: true,
	} {
		if got := status.Terminal(); got != want {
			t.Errorf("%q.Final() = %v, want %v", status, got, want)
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
		want := batch.StatusFailed
		if c.Completed > 0 {
			want = batch.StatusCompleted
		}
		if got := c.Outcome(); got != want {
			t.Errorf("%+v: Outcome() = %q, want %q", c, got, want)
		}
	})
	if got := (batch.Counts{}).Outcome(); got != batch.StatusFailed {
		t.Errorf("nothing completed: Outcome() = %q", got)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for reason, want := range map[batch.Reason]bool{
		batch.RetriableHTTPStatus: true, batch.NetworkError: true, batch.Timeout: true, batch.TaskTerminated: true,
		batch.NonRetriableHTTPStatus: false, batch.BuilderError: false, batch.Poisoned: false,
		batch.BatchExpired: false, batch.BatchCancelled: false, "": false, "unknown": false,
	} {
		if got := reason.Retriable(); got != want {
			t.Errorf("%q.Retriable() = %v, want %v", reason, got, want)
		}
	}
}
