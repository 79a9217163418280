package consume

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"fusillade/internal/testenv"
	"fusillade/internal/upstream"
)

// call is what the endpoint saw of a request.
type call struct {
	at       time.Time
	customID string
	model    string
	attempt  int
	nth      int // of this custom id, from 0
	beside   int // other calls in flight as it came
	header   http.Header
	body     []byte
}

// endpoint records its calls. It gives an answer unless told otherwise.
type endpoint struct {
	mu      sync.Mutex
	answer  func(w http.ResponseWriter, r *http.Request, c call)
	calls   []call
	nth     map[string]int // by custom id: how many calls
	running int
	peak    int
}

func (e *endpoint) set(answer func(w http.ResponseWriter, r *http.Request, c call)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away
	}
	var request struct {
		Model string `json:"model"`
	}
	_ = json.Unmarshal(body, &request) // a body that is no JSON has no model
	attempt, err := strconv.Atoi(r.Header.Get("X-Fusillade-Attempt"))
	if err != nil {
		http.Error(w, "no attempt", http.StatusBadRequest)
		return
	}
	c := call{at: at, customID: r.Header.Get("X-Fusillade-Custom-Id"), model: request.Model, attempt: attempt, header: r.Header, body: body}
	e.mu.Lock()
	if e.nth == nil {
		e.nth = make(map[string]int)
	}
	c.beside = e.running
	c.nth = e.nth[c.customID]
	e.nth[c.customID]++
	e.calls = append(e.calls, c)
	e.running++
	e.peak = max(e.peak, e.running)
	answer := e.answer
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		e.running--
		e.mu.Unlock()
	}()
	said := &saying{ResponseWriter: w}
	if answer != nil {
		answer(said, r, c)
	}
	if !said.something {
		_, _ = io.WriteString(w, testenv.ChatAnswer("ok"))
	}
}

// saying notes whether an answer was written.
type saying struct {
	http.ResponseWriter
	something bool
}

func (s *saying) WriteHeader(status int) {
	s.something = true
	s.ResponseWriter.WriteHeader(status)
}

func (s *saying) Write(p []byte) (int, error) {
	s.something = true
	return s.ResponseWriter.Write(p)
}

func (s *saying) Unwrap() http.ResponseWriter { return s.ResponseWriter }

func (e *endpoint) all() []call {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]call(nil), e.calls...)
}

// of are the calls of one custom id.
func (e *endpoint) of(customID string) (calls []call) {
	for _, c := range e.all() {
		if c.customID == customID {
			calls = append(calls, c)
		}
	}
	return calls
}

func (e *endpoint) inFlight() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running
}

// gate holds calls until it is opened or their client goes away.
type gate chan struct{}

func (g gate) answer(w http.ResponseWriter, r *http.Request, _ call) {
	select {
	case <-g:
		_, _ = io.WriteString(w, testenv.ChatAnswer("ok"))
	case <-r.Context().Done():
	}
}

// corrupting spoils the answer to one request in a way that Postgres refuses.
type corrupting struct {
	caller
	customID string
}

func (c *corrupting) Make(ctx context.Context, r *upstream.Request, o *upstream.Outcome) {
	c.caller.Make(ctx, r, o)
	if r.CustomID == c.customID {
		o.Response.RequestID = "a\x00b"
	}
}

// unabortable goes on with calls that were cut off.
type unabortable struct{ caller }

func (u unabortable) Make(ctx context.Context, r *upstream.Request, o *upstream.Outcome) {
	u.caller.Make(context.WithoutCancel(ctx), r, o)
}
