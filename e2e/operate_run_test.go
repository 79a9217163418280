package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
)

// A batch is cancelled, retried in part and deleted from the command line.
func TestBatchesCancelRetryDelete(t *testing.T) {
	t.Parallel()
	const n = 2000
	c := newCluster(t, mock.Settings{Latency: "uniform:20ms-60ms"}, "FUSILLADE_PURGE_INTERVAL_MS=100", "FUSILLADE_PURGE_THROTTLE_MS=0")
	c.start("dispatcher")
	c.start("consumer")
	id := c.createBatch(requests(t, n, "gpt-4", oddModel))
	c.await(id, "some are done", func(b postgres.Batch) bool { return b.Counts.Done() > 100 })

	if out := c.run("batches", "cancel", id.String(), "--line", "1990", "--line", "1991"); out != "" {
		t.Errorf("printed %q", out)
	}
	if out := c.run("batches", "cancel", id.String()); !strings.Contains(out, "cancelled") {
		t.Errorf("printed %q", out)
	}
	b := c.await(id, "it is read", func(postgres.Batch) bool { return true })
	if b.Status != batch.StatusCancelled || b.Counts.Completed+b.Counts.Canceled != n {
		t.Errorf("cancelled: %+v", b)
	}
	c.check(id)
	if code := c.start("fusillade", "batches", "cancel", id.String()).Exit(t); code != 0 {
		t.Errorf("exit code %d of a second cancel, want 0: it is cancelled", code)
	}

	// The output has every request, whether it was called or not.
	out := filepath.Join(t.TempDir(), "out.jsonl")
	if code := c.start("fusillade", "batches", "results", id.String(), "-o", out).Exit(t); code != 1 {
		t.Errorf("exit code %d of results with canceled requests, want 1", code)
	}
	failures := strings.TrimSuffix(out, ".jsonl") + ".errors.jsonl"
	if got := len(customIDs(t, out, failures)); got != n {
		t.Errorf("%d custom ids in the results, want %d", got, n)
	}
	if raw, err := os.ReadFile(failures); err != nil || int64(strings.Count(string(raw), `"batch_cancelled"`)) != b.Counts.Canceled {
		t.Errorf("%d of %d errors are batch_cancelled, %v", strings.Count(string(raw), `"batch_cancelled"`), b.Counts.Canceled, err)
	}

	c.run("batches", "retry", id.String(), "--line", "1990")
	c.await(id, "one more is done", func(now postgres.Batch) bool {
		return now.Status.Terminal() && now.Counts.Completed == b.Counts.Completed+1
	})
	c.run("batches", "rerun", id.String(), "--canceled")
	if b := c.awaitEnd(id); b.Counts.Completed != n {
		t.Errorf("counts are %+v, want all completed", b.Counts)
	}
	c.check(id)

	c.run("batches", "delete", id.String())
	poll(t, "nothing is left of the batch", func() bool { return checker.Erased(t.Context(), c.db, id) == nil })
}

func TestBatchesRetryUsage(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	c.serveAPI()
	for _, args := range [][]string{
		{"retry", "nonsense"},
		{"cancel", "batch_1"},
		{"retry", batch.ID{1}.String(), "--line", "1", "--failed"},
		{"retry", batch.ID{1}.String(), "--line", "x"},
	} {
		if code := c.start("fusillade", append([]string{"batches"}, args...)...).Exit(t); code != 2 {
			t.Errorf("%v: exit code %d, want 2", args, code)
		}
	}
	for _, verb := range []string{"cancel", "retry", "delete"} {
		if code := c.start("fusillade", "batches", verb, batch.ID{1}.String()).Exit(t); code != 1 {
			t.Errorf("%s of an unknown batch: exit code %d, want 1", verb, code)
		}
	}
}
