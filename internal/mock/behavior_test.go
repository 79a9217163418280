package mock_test

import (
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/testenv/effort"
	"fusillade/internal/upstream"
)

var update = flag.Bool("update", false, "write the table of behaviors into docs/mock.md")

// outcomes are what becomes of a request whose every call meets a behavior; empty:
// it completes.
var outcomes = map[string]batch.Reason{
	"error-body": batch.RetriableErrorBody, "error-text": batch.RetriableErrorBody, "rate-limit-body": batch.RetriableErrorBody,
	"bad-request-body": batch.NonRetriableErrorBody, "finish-error": batch.RetriableErrorBody, "choices-null": batch.MalformedAnswer,
	"html": batch.MalformedAnswer, "empty": batch.NoAnswer, "text": batch.MalformedAnswer, "array": batch.MalformedAnswer,
	"accepted": batch.NoAnswer, "no-content": batch.NoAnswer, "bom": batch.MalformedAnswer, "trailing": batch.MalformedAnswer,
	"event-stream": batch.UnexpectedStream, "ndjson": batch.UnexpectedStream,
	"response-failed": batch.ResponseFailed, "response-incomplete": batch.ResponseIncomplete, "response-queued": batch.ResponseUnfinished,
	"bad-request": batch.NonRetriableHTTPStatus, "context-length": batch.NonRetriableHTTPStatus, "unauthorized": batch.NonRetriableHTTPStatus,
	"forbidden": batch.NonRetriableHTTPStatus, "model-not-found": batch.ModelNotFound, "not-found": batch.NotFound,
	"rate-limit": batch.RetriableHTTPStatus, "insufficient-quota": batch.QuotaExhausted, "server-error": batch.RetriableHTTPStatus,
	"unavailable": batch.RetriableHTTPStatus, "overloaded": batch.RetriableHTTPStatus,
	"retry-after-epoch": batch.RetriableHTTPStatus, "retry-after-huge": batch.RetriableHTTPStatus,
	"retry-after-infinity": batch.RetriableHTTPStatus, "retry-after-words": batch.RetriableHTTPStatus,
	"redirect": "", "redirect-elsewhere": batch.Redirected, "redirect-loop": batch.Redirected,
	"gzip": "", "deflate": "", "br": "", "zstd": "", "encoding-unknown": batch.UnknownEncoding, "gzip-cut": batch.NetworkError,
	"bomb": batch.NonRetriableHTTPStatus, "huge": batch.NonRetriableHTTPStatus,
	"nan": batch.MalformedAnswer, "utf8": "", "surrogate": "", "line-ends": "", "number": "", "deep": "",
	"hang": batch.Timeout, "stall": batch.Timeout, "slow": "", "truncated": batch.NetworkError, "chunks-cut": batch.NetworkError,
	"length-short": batch.NetworkError, "length-long": batch.NetworkError, "reset": batch.NetworkError, "close": batch.NetworkError,
	"close-after": "", "no-http": batch.NetworkError,
}

// patience is the timeout of calls; only those that hang wait for it.
const patience = 3 * time.Second

// A prompt gets each behavior by its word, and a client sees it for what it is.
func TestBehaviors(t *testing.T) {
	t.Parallel()
	endpoint, err := mock.Listen(t.Context(), "127.0.0.1:0", mock.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Stop() })
	for _, b := range mock.Behaviors() {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			if effort.Raced && (b.Name == "bomb" || b.Name == "huge") {
				t.Skip("byte after byte of one goroutine: make test runs it without the race detector")
			}
			want, known := outcomes[b.Name]
			if !known {
				t.Fatal("what becomes of it?")
			}
			path := "/v1/chat/completions"
			if strings.HasPrefix(b.Name, "response-") {
				path = "/v1/responses"
			}
			timeout := time.Minute
			if want == batch.Timeout {
				timeout = patience
			}
			client, err := upstream.New(upstream.Config{Timeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			got := client.Do(t.Context(), upstream.Request{
				Method: http.MethodPost, BaseURL: endpoint.URL, Path: path, CustomID: b.Name,
				Body: []byte(`{"model":"m","messages":[{"role":"user","content":"please mock:` + b.Name + ` now"}]}`),
			})
			if got.Reason != want {
				t.Errorf("%q (%s), want %q", got.Reason, got.Detail, want)
			}
			if want == "" && !strings.Contains(string(got.Response.Body), `"choices":[`) {
				t.Errorf("the answer is %.200s", got.Response.Body)
			}
		})
	}
}

// A behavior may be for the first calls of a custom id alone, or for a share of
// all calls.
func TestBehaviorsOfSomeCalls(t *testing.T) {
	t.Parallel()
	endpoint, err := mock.Listen(t.Context(), "127.0.0.1:0", mock.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Stop() })
	do := func(method, path, id, body string) (status int, text string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, endpoint.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Fusillade-Custom-Id", id)
		resp, err := (&http.Client{Timeout: time.Minute}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer any
		_ = json.NewDecoder(resp.Body).Decode(&answer)
		encoded, _ := json.Marshal(answer)
		return resp.StatusCode, string(encoded)
	}
	const chat = "/v1/chat/completions"
	for i, want := range []int{429, 429, 200, 200} {
		if got, text := do("POST", chat, "a", `{"model":"m","messages":[{"role":"user","content":"mock:rate-limit*2"}]}`); got != want {
			t.Errorf("call %d: status %d, want %d: %s", i, got, want, text)
		}
	}
	if got, text := do("POST", chat, "b", `{"model":"m","messages":"mock:nonsense"}`); got != 400 || !strings.Contains(text, `no behavior is named \"nonsense\"`) {
		t.Errorf("status %d: %s", got, text)
	}
	if got, text := do("POST", chat, "b", `{"model":"m","messages":"the mock: a bird"}`); got != 200 {
		t.Errorf("status %d: %s", got, text)
	}
	for _, bad := range []string{"html", "html=2", "nonsense=0.1", "html=0.6,empty=0.6"} {
		if got, _ := do("PATCH", "/config", "", `{"behaviors":"`+bad+`"}`); got != 400 {
			t.Errorf("behaviors %q: status %d", bad, got)
		}
	}
	if got, text := do("PATCH", "/config", "", `{"behaviors":"overloaded=0.3,unavailable=0.3"}`); got != 200 {
		t.Fatalf("status %d: %s", got, text)
	}
	counts := map[int]int{}
	for range 200 {
		status, _ := do("POST", chat, "c", `{"model":"m"}`)
		counts[status]++
	}
	for _, status := range []int{200, 503, 529} {
		if counts[status] < 20 {
			t.Errorf("statuses %v of 200 calls", counts)
		}
	}
}

// The documentation lists what there is.
func TestBehaviorsTable(t *testing.T) {
	t.Parallel()
	const path, begin, end = "../../docs/mock.md", "<!-- behaviors: begin -->\n", "<!-- behaviors: end -->\n"
	table := "\n| word | what is answered | what becomes of the request |\n|---|---|---|\n"
	for _, b := range mock.Behaviors() {
		outcome := "completes"
		if reason := outcomes[b.Name]; reason != "" {
			outcome = "`" + string(reason) + "`"
		}
		table += "| `mock:" + b.Name + "` | " + b.Doc + " | " + outcome + " |\n"
	}
	table += "\n"
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(document), begin)
	old, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		t.Fatalf("%s has no table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(table, old); diff != "" {
		t.Errorf("%s is out of date; run make readme (-want +got):\n%s", path, diff)
	}
}
