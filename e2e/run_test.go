package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/mock"
)

// A run that is killed goes on where it was.
func TestRunGoesOnAfterKill(t *testing.T) {
	t.Parallel()
	const n, limit = 1500, 20
	c := newCluster(t, mock.Settings{Latency: "uniform:30ms-100ms"}, "FUSILLADE_DEFAULT_MODEL_CONCURRENCY=20")
	in, out, data := requests(t, n, "gpt-4", oddModel), filepath.Join(t.TempDir(), "out.jsonl"), t.TempDir()
	args := []string{"run", "-i", in, "-o", out, "--data-dir", data}

	first := c.start("fusillade", args...)
	awaitCalls(t, c.mock, n/3)
	first.Kill()
	finished := c.finished()
	called := c.mock.CustomIDs()
	if _, err := os.Stat(out); err == nil {
		t.Error("the output exists before the end")
	}

	second := c.start("fusillade", args...)
	if code := second.Exit(t); code != 0 {
		t.Fatalf("exit code %d, want 0", code)
	}
	if ids := customIDs(t, out); len(ids) != n {
		t.Errorf("%d custom ids in the results, want %d", len(ids), n)
	}
	again := 0
	for customID, calls := range c.mock.CustomIDs() {
		if finished[customID] && calls != called[customID] {
			t.Errorf("%s was finished and called again", customID)
		}
		if calls > 1 {
			again++
		}
	}
	// Calls in flight, and those whose results were not written yet.
	if again > 4*limit {
		t.Errorf("%d requests were called again", again)
	}

	calls := c.mock.Stats().Calls
	third := c.start("fusillade", args...)
	if code := third.Exit(t); code != 0 || c.mock.Stats().Calls != calls {
		t.Errorf("running it again: exit code %d, %d more calls; want 0 and none", code, c.mock.Stats().Calls-calls)
	}
}

// finished are the custom ids with a result in the database.
func (c *cluster) finished() map[string]bool {
	c.t.Helper()
	rows, err := c.db.Query(c.t.Context(), `SELECT custom_id FROM request_states WHERE state IN ('completed', 'failed')`)
	if err != nil {
		c.t.Fatal(err)
	}
	ids := make(map[string]bool)
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { ids[id] = true; return nil }); err != nil {
		c.t.Fatal(err)
	}
	return ids
}

func awaitCalls(t *testing.T, endpoint *mock.Server, n int64) {
	t.Helper()
	poll(t, "calls are made", func() bool { return endpoint.Stats().Calls >= n })
}
