package consume

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/upstream"
)

func TestBatchCompletes(t *testing.T) {
	t.Parallel()
	const n = 300
	c := newCluster(t)
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
		w.Header().Set("X-Request-Id", "up-"+c.customID)
		fmt.Fprintf(w, `{"model":"answered","choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":3,"completion_tokens":4},"id":%q}`, c.customID)
	})
	r := c.start()
	id := c.Begin(lines(n, testModel, otherModel, "*"))
	results := c.AwaitEnd(id)
	for i := range n {
		customID := fmt.Sprintf("r%d", i)
		got, ok := results[customID]
		if !ok {
			t.Fatalf("%s has no result", customID)
		}
		want := batch.Result{
			ID: got.ID, Seq: got.Seq, CustomID: customID, State: batch.Completed, StatusCode: 200, RequestID: "up-" + customID,
			Body:     fmt.Appendf(nil, `{"model":"answered","choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":3,"completion_tokens":4},"id":%q}`, customID),
			Attempts: 1,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
	}
	seen := make(map[string]bool)
	for _, call := range c.endpoint.all() {
		if seen[call.customID] {
			t.Errorf("%s was called twice", call.customID)
		}
		seen[call.customID] = true
	}
	if got := c.Count(`SELECT count(*) FROM results WHERE answered_model = 'answered' AND prompt_tokens = 3 AND completion_tokens = 4`); got != n {
		t.Errorf("%d results have model and usage, want %d", got, n)
	}
	until(t, "the stream is empty", func() bool { return c.Queued() == 0 })
	if s := r.Stats(); s.Completed != n || s.Failed+s.Retried+s.Fenced != 0 || s.InFlight != 0 || s.LastError != nil || s.CallTime <= 0 {
		t.Errorf("stats are %+v, want %d completed and nothing else", s, n)
	}
}

func TestCallHeaders(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	request := line("Grüße\tan alle", testModel)
	id := c.Begin([]batch.Template{request}, func(n *postgres.NewBatch) {
		n.Metadata = map[string]string{"team": "red\r\nX-Evil: 1", "unsent": "x"}
	})
	results := c.AwaitEnd(id)
	calls := c.endpoint.all()
	if len(calls) != 1 {
		t.Fatalf("%d calls, want 1", len(calls))
	}
	got := calls[0].header
	for _, name := range []string{"Accept-Encoding", "Content-Length", "User-Agent"} {
		delete(got, name)
	}
	trace := got.Get("Traceparent")
	if !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(trace) {
		t.Errorf("traceparent is %q", trace)
	}
	b, requestID := c.Batch(id), results["Grüße\tan alle"].ID.String()
	want := http.Header{
		"Authorization":                       {"Bearer sk-test"},
		"Content-Type":                        {"application/json"},
		"Idempotency-Key":                     {requestID + "-0"},
		"Traceparent":                         {trace},
		"X-Fusillade-Request-Id":              {requestID},
		"X-Fusillade-Custom-Id":               {"Grüße an alle"},
		"X-Fusillade-Attempt":                 {"0"},
		"X-Fusillade-Batch-Id":                {id.String()},
		"X-Fusillade-Batch-Endpoint":          {"/v1/chat/completions"},
		"X-Fusillade-Batch-Completion-Window": {"24h"},
		"X-Fusillade-Batch-Created-At":        {b.CreatedAt.UTC().Format("2006-01-02T15:04:05.000000Z")},
		"X-Fusillade-Batch-Team":              {"red  X-Evil: 1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// Bodies arrive and are kept byte for byte, whatever they hold.
func TestBodiesAreKept(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	odd := make([]byte, 0, 4*256)
	for i := range 4 * 256 {
		odd = append(odd, byte(i))
	}
	answers := map[string][]byte{
		"bytes": []byte("{ \"choices\":\t[{\"message\":{\"content\":\"\\u00e9é\u2028\xff\\ud800\"}}] ,\"n\":1.0e+0}\r\n"),
		"small": []byte(testenv.ChatAnswer(".")), "large": []byte(testenv.ChatAnswer(strings.Repeat("0123456789abcdef", 1<<16))),
	}
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
		if c.customID == "failed" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(odd)
			return
		}
		_, _ = w.Write(answers[c.customID])
	})
	requests := []batch.Template{line("bytes", testModel), line("small", testModel), line("large", testModel), line("failed", testModel)}
	requests[0].Body = []byte("{ \"model\":\t\"x\",  \"n\":1.0e+0, \"s\":\"\\u00e9é\u2028\" , \"model\":\"x\"}")
	requests[2].Body = []byte(`{"model":"x","pad":"` + strings.Repeat("é", 1<<19) + `"}`)
	results := c.AwaitEnd(c.Begin(requests))
	for _, request := range requests {
		calls := c.endpoint.of(request.CustomID)
		if len(calls) != 1 || !bytes.Equal(calls[0].body, request.Body) {
			t.Errorf("%s: %d calls, want 1 with the body as it was given", request.CustomID, len(calls))
		}
	}
	for customID, answer := range answers {
		if !bytes.Equal(results[customID].Body, answer) {
			t.Errorf("%s: the result's body differs from the answer", customID)
		}
	}
	if got := results["failed"]; got.State != batch.Failed || !bytes.Equal(got.Body, odd) {
		t.Errorf("the failure is %s with a body of %d bytes, want the answer's %d", got.State, len(got.Body), len(odd))
	}
}

// What can never be sent fails once, and says why.
func TestUnsendableRequests(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) {
		good := cfg.Resolve
		cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
			switch m {
			case "homeless":
				return upstream.Target{}, false
			case "by ftp":
				return upstream.Target{BaseURL: "ftp://models.example"}, true
			case "bad key":
				return upstream.Target{BaseURL: c.url, APIKey: "sk\n1"}, true
			}
			return good(m)
		}
	})
	badMethod := line("bad method", testModel)
	badMethod.Method = "POST /"
	results := c.AwaitEnd(c.Begin([]batch.Template{
		line("homeless", "homeless"), line("by ftp", "by ftp"), line("bad key", "bad key"), badMethod, line("good", testModel),
	}))
	for customID, detail := range map[string]string{
		"homeless": "no upstream", "by ftp": "scheme", "bad key": "API key", "bad method": "method",
	} {
		got := results[customID]
		if got.State != batch.Failed || got.Reason != batch.BuilderError || got.Attempts != 1 || got.StatusCode != 0 || got.Body != nil {
			t.Errorf("%s: the result is %+v, want failed for %s at once", customID, got, batch.BuilderError)
		}
		if !strings.Contains(got.Detail, detail) || strings.Contains(got.Detail, "sk") {
			t.Errorf("%s: the detail is %q, want it to name %q and no key", customID, got.Detail, detail)
		}
	}
	if calls := c.endpoint.all(); len(calls) != 1 || results["good"].State != batch.Completed {
		t.Errorf("%d calls, and the good one is %s; want it alone to be called, and completed", len(calls), results["good"].State)
	}
}

// A consumer runs no more calls than it may, and gives every model its turn
// however long the backlog of another is.
func TestModelsShareAConsumer(t *testing.T) {
	t.Parallel()
	const most, n = 2, 400
	c := newCluster(t)
	r := c.start(func(cfg *Config) { cfg.MaxInFlight = most })
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, c call) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.Context().Done():
		}
	})
	long := c.Begin(lines(n, testModel))
	until(t, "the long batch is under way", func() bool { return c.Batch(long).Counts.Done() > most })
	short := c.Begin(lines(10, otherModel, "third"))
	c.AwaitEnd(short)
	if done := c.Batch(long).Counts.Done(); done == n {
		t.Error("the short batch had to wait until the end of the long one")
	}
	c.AwaitEnd(long)
	if c.endpoint.peak > most {
		t.Errorf("%d calls were in flight, at most %d are allowed", c.endpoint.peak, most)
	}
	until(t, "all are counted", func() bool { return r.Stats().Completed == n+10 })
}
