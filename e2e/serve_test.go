package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/openai/openai-go/v3"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/testenv/programs"
)

// serve starts fusillade serve and waits until it listens.
func (c *cluster) serve(args ...string) (*programs.Process, *service) {
	c.t.Helper()
	p := c.start("fusillade", append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	return p, &service{c, p.URL(c.t) + "/v1"}
}

// One process does everything. It is killed in the middle, and the next one
// goes on where it was.
func TestServeGoesOnAfterKill(t *testing.T) {
	t.Parallel()
	const n, limit = 1500, 20
	c := newCluster(t, mock.Settings{Latency: "uniform:10ms-50ms"}, "FUSILLADE_DEFAULT_MODEL_CONCURRENCY=20")
	data := t.TempDir()
	first, s := c.serve("--data-dir", data)
	client := s.sdk("none-needed")
	file, err := client.Files.New(t.Context(), uploadParams(lines(n, "gpt-4")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Batches.New(t.Context(), batchParams(file.ID))
	if err != nil {
		t.Fatal(err)
	}
	awaitCalls(t, c.mock, n/3)
	first.Kill()

	second, s := c.serve("--data-dir", data)
	client = s.sdk("none-needed")
	poll(t, "the batch is completed", func() bool {
		if b, err = client.Batches.Get(t.Context(), b.ID); err != nil {
			t.Fatal(err)
		}
		return b.Status == openai.BatchStatusCompleted
	})
	if b.RequestCounts.Completed != n {
		t.Errorf("counts are %+v", b.RequestCounts)
	}
	if got := len(sdkLines(t, client, b.OutputFileID)); got != n {
		t.Errorf("%d lines of output, want %d", got, n)
	}
	id, err := batch.ParseID(b.ID)
	if err != nil {
		t.Fatal(err)
	}
	c.check(id)
	again := 0
	for _, calls := range c.mock.CustomIDs() {
		if calls > 1 {
			again++
		}
	}
	if again > 4*limit { // as in TestRunGoesOnAfterKill
		t.Errorf("%d requests were called again", again)
	}
	second.Signal(syscall.SIGTERM)
	if code := second.Exit(t); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// With keys it says that there is none yet, and serves who has one.
func TestServeWithKeys(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{}, "FUSILLADE_API_AUTH=keys")
	p, s := c.serve("--data-dir", t.TempDir())
	poll(t, "it says that there is no key", func() bool {
		return strings.Contains(p.Log(), "no API key yet")
	})
	stranger := s.sdk("none")
	_, err := stranger.Files.List(t.Context(), openai.FileListParams{})
	wantStatus(t, err, http.StatusUnauthorized)
	key := s.key("alice")
	client := s.sdk(key)
	if _, err := client.Files.List(t.Context(), openai.FileListParams{}); err != nil {
		t.Error(err)
	}
	list := strings.Split(c.run("keys", "ls"), "\n")
	if len(list) != 2 || !strings.Contains(list[1], "alice") || strings.Contains(list[1], key) {
		t.Errorf("keys ls says %q", list)
	}
	c.run("keys", "revoke", strings.Fields(list[1])[0])
	_, err = client.Files.List(t.Context(), openai.FileListParams{})
	wantStatus(t, err, http.StatusUnauthorized)
}
