//go:build upgrade && unix

package upgrade

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// A run that the release before began, and that was killed, goes on with this one in
// the same data directory: its Postgres, its schema, its job.
func TestDataDirectory(t *testing.T) {
	before := buildPrevious(t)
	built, err := programs.Build(filepath.Join("..", ".."), "upgrade", programs.Commands)
	if err != nil {
		t.Fatal(err)
	}
	answers, err := mock.New(mock.Config{Settings: mock.Settings{Latency: "100ms"}, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := httptest.NewServer(answers)
	t.Cleanup(endpoint.Close)
	dir := testenv.EnterableDir(t)
	const n, inFlight = 300, 10
	input, output := filepath.Join(dir, "requests.jsonl"), filepath.Join(dir, "results.jsonl")
	var lines bytes.Buffer
	for i := range n {
		fmt.Fprintf(&lines, `{"custom_id":"r%d","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"question"}]}}`+"\n", i)
	}
	if err := os.WriteFile(input, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "-i", input, "-o", output, "--upstream", endpoint.URL, "--concurrency", fmt.Sprint(inFlight), "--data-dir", filepath.Join(dir, "data")}

	first := before.Start(t, programs.Environment(), "fusillade", args...)
	testenv.Eventually(t, "the release before works", func() bool { return answers.Stats().Calls > n/3 })
	first.Kill()
	called := answers.Stats().Calls

	second := built.Start(t, programs.Environment(), "fusillade", args...)
	second.WantExit(t, 0)
	results, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(results, []byte("\n")); got != n {
		t.Errorf("%d results, want %d", got, n)
	}
	// Once more: what was in flight, and what had ended and was not stored yet.
	if again := answers.Stats().Calls - n; again < 0 || again > 4*inFlight {
		t.Errorf("%d calls, %d of them by the release before, for %d requests", answers.Stats().Calls, called, n)
	}
}
