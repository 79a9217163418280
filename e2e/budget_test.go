package e2e

import (
	"path/filepath"
	"testing"

	"fusillade/internal/mock"
)

// A run ends when its budget is spent, does nothing when it is run again, and goes on
// with a larger one, in money too. Nothing is called twice.
func TestRunWithABudget(t *testing.T) {
	t.Parallel()
	const n = 60
	c := newCluster(t, mock.Settings{Latency: "200ms"}, "FUSILLADE_MODEL_PRICES=gpt-*=1/2")
	input, out := requests(t, n, "gpt-4"), filepath.Join(t.TempDir(), "out.jsonl")
	args := []string{"run", input, "-o", out, "--data-dir", t.TempDir(), "--concurrency", "4"}
	c.start("fusillade", append(args, "--budget-tokens", "1")...).WantExit(t, 1, "the budget is spent", "larger budget")
	called := c.mock.Stats().Calls
	if called < 1 || called > n-10 {
		t.Fatalf("%d calls", called)
	}
	c.start("fusillade", args...).WantExit(t, 1, "nothing is called", "a larger --budget-tokens")
	c.start("fusillade", append(args, "--budget-tokens", "2")...).WantExit(t, 1, "the budget is spent already")
	if again := c.mock.Stats().Calls; again != called {
		t.Errorf("%d calls, %d before", again, called)
	}
	c.start("fusillade", append(args, "--budget-cost", "1000")...).WantExit(t, 0, "the budget was raised", "60 of 60 requests completed")
	if calls := c.mock.Stats().Calls; calls != n {
		t.Errorf("%d calls for %d requests", calls, n)
	}
	other := requests(t, 1, "llama")
	c.start("fusillade", "run", other, "-o", out, "--data-dir", t.TempDir(), "--budget-cost", "1").WantExit(t, 2, "llama", "FUSILLADE_MODEL_PRICES")
}
