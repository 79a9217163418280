package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fusillade/internal/mock"
)

// nodeProject returns a directory with OpenAI's client for Node, from npm, and
// scripts of testdata/node. Without node, or without npm's registry, the test is
// skipped and says so; where CI is set it fails instead.
func nodeProject(ctx context.Context, t *testing.T, scripts ...string) (dir string) {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			unavailable(t, "%s is not installed", program)
		}
	}
	dir = t.TempDir()
	for _, name := range append([]string{"package.json", "package-lock.json"}, scripts...) {
		content, err := os.ReadFile(filepath.Join("testdata", "node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		unavailable(t, "npm ci: %v\n%s", err, out)
	}
	return dir
}

// OpenAI's client for Node, as its users run it.
func TestSDKNode(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := nodeProject(ctx, t, "batch.mjs")
	s := newService(t, mock.Settings{Errors: "400=0.2"})
	script := exec.CommandContext(ctx, "node", "batch.mjs", s.url, s.key("alice"))
	script.Dir = dir
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// A webhook is signed such that OpenAI's client for Node takes it.
func TestSDKNodeWebhook(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := nodeProject(ctx, t, "webhook.mjs")
	s := newService(t, mock.Settings{}, "FUSILLADE_ENCRYPTION_KEY="+strings.Repeat("ab", 32), "FUSILLADE_WEBHOOK_ALLOW_PRIVATE=true")
	type received struct {
		Secret  string            `json:"secret"`
		Batch   string            `json:"batch"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	events := make(chan received, 1)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		event := received{Body: string(body), Headers: make(map[string]string)}
		for name := range r.Header {
			event.Headers[name] = r.Header.Get(name)
		}
		select {
		case events <- event:
		default: // delivered again
		}
	}))
	t.Cleanup(hook.Close)
	secret := s.run("webhooks", "create", "--owner", "alice", "--url", hook.URL)
	c := s.sdk(s.key("alice"))
	file, err := c.Files.New(ctx, uploadParams(lines(2, "gpt-4")))
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Batches.New(ctx, batchParams(file.ID))
	if err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-events:
		event.Secret, event.Batch = secret, b.ID
		input, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		script := exec.CommandContext(ctx, "node", "webhook.mjs")
		script.Dir, script.Stdin = dir, bytes.NewReader(input)
		if out, err := script.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	case <-ctx.Done():
		t.Fatal("no event was delivered")
	}
}

func unavailable(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
