package e2e

import (
	"path/filepath"
	"testing"

	"fusillade/internal/mock"
)

// A run does all that may be called, then says that the rest is of a paused model and
// how to go on.
func TestRunWithAPausedModel(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	if _, err := c.db.Exec(t.Context(), `INSERT INTO models (model, paused) VALUES ('gpt-4', true)`); err != nil {
		t.Fatal(err)
	}
	input, out := requests(t, 20, "gpt-4", "llama"), filepath.Join(t.TempDir(), "out.jsonl")
	args := []string{"run", input, "-o", out, "--data-dir", t.TempDir()}
	c.start("fusillade", args...).WantExit(t, 2, "model gpt-4 is paused", "10 of 20 done", "--resume-models")
	c.start("fusillade", args...).WantExit(t, 2, "model gpt-4 is paused", "10 of 20 done")
	if calls := c.mock.Stats().Calls; calls != 10 {
		t.Errorf("%d calls", calls)
	}
	c.start("fusillade", append(args, "--resume-models")...).WantExit(t, 0, "model gpt-4 was paused, and is resumed", "20 of 20 requests completed")
}
