package fusilladetest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"fusillade"
	"fusillade/internal/embedded"
)

// stopTimeout is how long a Fusillade may take to end with its test.
const stopTimeout = time.Minute

// New returns a Fusillade that works on batches until the test ends, with a handler
// as its model endpoint. A change may set any field before it begins: such as
// DatabaseURL or Pool, a database of the test's own, to work in that; a NATS server is
// embedded beside it unless NATS is set too. Retries are quick. Any error fails the test.
func New(t testing.TB, endpoint http.Handler, changes ...func(*fusillade.Config)) *fusillade.Fusillade {
	t.Helper()
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	cfg := fusillade.DefaultConfig()
	cfg.Upstream, cfg.Backoff, cfg.MaxBackoff, cfg.StatusLogInterval = server.URL, time.Millisecond, 10*time.Millisecond, nil
	for _, change := range changes {
		change(&cfg)
	}
	embed(t, &cfg)
	f, err := fusillade.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }() // ends in the cleanup
	t.Cleanup(func() {
		stop()
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case err = <-ended:
		case <-timer.C:
			t.Fatalf("Run has not ended %v after it was told to", stopTimeout)
		}
		if err != nil {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// embed starts what the test has not named.
func embed(t testing.TB, cfg *fusillade.Config) {
	t.Helper()
	if cfg.DataDir != "" || cfg.NATS != nil {
		return
	}
	// Not t.TempDir: a Postgres that root starts runs as another user, who must be able
	// to enter.
	dir, err := os.MkdirTemp("", "fusilladetest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if cfg.DatabaseURL == "" && cfg.Pool == nil {
		cfg.DataDir = dir
		return
	}
	broker, err := embedded.StartNATS(embedded.NATSConfig{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := broker.Stop(); err != nil {
			t.Error(err)
		}
	})
	if cfg.NATS, err = broker.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.NATS.Close)
}

// Call is a call that an endpoint gets.
type Call struct {
	CustomID string
	Path     string // such as /v1/chat/completions
	Model    string
	Body     json.RawMessage
}

// Answers is an endpoint for chat completions that answers with a status and, of a
// status of success, the content of a message; else the message of an error. It is
// called from many goroutines.
func Answers(answer func(Call) (status int, content string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client is gone
		}
		var head struct {
			Model string `json:"model"`
		}
		_ = json.Unmarshal(body, &head) // else there is no model
		status, content := answer(Call{CustomID: r.Header.Get("X-Fusillade-Custom-Id"), Path: r.URL.Path, Model: head.Model, Body: body})
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(completion(head.Model, status, content)) // the client sees it cut off
	})
}

func completion(model string, status int, content string) any {
	if status >= 300 {
		return map[string]any{"error": map[string]any{"message": content}}
	}
	return map[string]any{
		"id": "chatcmpl-test", "object": "chat.completion", "model": model,
		"choices": []any{map[string]any{
			"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": content},
		}},
		"usage": map[string]any{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
	}
}
