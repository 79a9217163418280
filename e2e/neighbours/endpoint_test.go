//go:build neighbours && unix

package neighbours

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// endpoint answers each owner as its test says, by the custom id of a call.
type endpoint struct {
	url   string
	calls atomic.Int64 // of neighbours

	mu        sync.Mutex
	neighbour http.HandlerFunc // nil: as for everyone
}

// latency is that of a call that nothing is wrong with.
const latency = 50 * time.Millisecond

func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	e := new(endpoint)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.url = server.URL
	return e
}

func (e *endpoint) answer(neighbour http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.neighbour = neighbour
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	neighbour := e.neighbour
	e.mu.Unlock()
	if strings.HasPrefix(r.Header.Get("X-Fusillade-Custom-Id"), "neighbour") {
		e.calls.Add(1)
		if neighbour != nil {
			neighbour(w, r)
			return
		}
	}
	completed(w, r, latency)
}

func completed(w http.ResponseWriter, r *http.Request, after time.Duration) {
	select {
	case <-time.After(after):
	case <-r.Context().Done():
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, `{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
}

// failing answers with a status, at once, and says when to come again.
func failing(status int, retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		http.Error(w, `{"error":{"message":"no"}}`, status)
	}
}
