package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/collector"
	"fusillade/internal/testenv/programs"
	"fusillade/internal/tracing"
)

var printTrace = flag.Bool("print-trace", false, "print the trace of a request, as docs/tracing.md has it")

// tracedCluster is a cluster of which each process exports its spans, and an endpoint
// that keeps the trace headers of each call.
type tracedCluster struct {
	*cluster
	spans     *collector.Collector
	processes []*programs.Process

	mu    sync.Mutex
	calls map[string][]http.Header // by custom id
	hang  chan struct{}            // until it is closed, calls of "hangs" do
}

const (
	tracedKey    = "sk-no-span-has-it"
	tracedPrompt = "a prompt that no span has"
	tracedAnswer = "an answer that no span has"
	tracedTeam   = "metadata-that-no-span-has"
)

func newTracedCluster(t *testing.T, settings ...string) *tracedCluster {
	t.Helper()
	c := &tracedCluster{spans: collector.New(t), calls: make(map[string][]http.Header), hang: make(chan struct{})}
	endpoint := httptest.NewServer(c)
	t.Cleanup(endpoint.Close)
	t.Cleanup(sync.OnceFunc(func() { c.release() }))
	c.cluster = newCluster(t, mock.Settings{}, append([]string{
		"FUSILLADE_UPSTREAM_URL=" + endpoint.URL, "FUSILLADE_UPSTREAM_API_KEY=" + tracedKey, "FUSILLADE_LISTEN_ADDR=127.0.0.1:0",
		"FUSILLADE_MAX_RETRIES=3", "FUSILLADE_BATCH_METADATA_FIELDS=team", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.spans.HTTP, "OTEL_BSP_SCHEDULE_DELAY=50",
	}, settings...)...)
	return c
}

func (c *tracedCluster) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.hang:
	default:
		close(c.hang)
	}
}

// ServeHTTP answers as the custom id says.
func (c *tracedCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	id := r.Header.Get("X-Fusillade-Custom-Id")
	c.mu.Lock()
	c.calls[id] = append(c.calls[id], r.Header.Clone())
	n, hang := len(c.calls[id]), c.hang
	c.mu.Unlock()
	switch {
	case id == "retried" && n == 1:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case id == "refused":
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":{"message":"`+tracedAnswer+`"}}`)
		return
	case id == "hangs":
		select {
		case <-hang:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"object":"chat.completion","model":"gpt-4-0613","choices":[{"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7}}`, tracedAnswer)
}

func (c *tracedCluster) callsOf(id string) []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls[id])
}

func (c *tracedCluster) begin(names ...string) {
	c.t.Helper()
	for _, name := range names {
		p := c.start(name)
		c.processes = append(c.processes, p)
		if name == "api" {
			c.server = p.URL(c.t)
		}
	}
}

// flush stops all processes, which export what they have left.
func (c *tracedCluster) flush() {
	c.t.Helper()
	for _, p := range c.processes {
		p.Signal(syscall.SIGTERM)
	}
	for _, p := range c.processes {
		if code := p.Exit(c.t); code != 0 {
			c.t.Errorf("a process ended with code %d:\n%s", code, p.Tail())
		}
		p.Sound(c.t)
	}
	c.processes = nil
}

// submit uploads a file and creates a batch of it, as a client with a trace of its
// own does.
func (c *tracedCluster) submit(traceparent string, customIDs ...string) batch.ID {
	c.t.Helper()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	_ = w.WriteField("purpose", "batch")
	part, err := w.CreateFormFile("file", "requests.jsonl")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, id := range customIDs {
		fmt.Fprintf(part, `{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4","messages":[{"role":"user","content":%q}]}}`+"\n", id, tracedPrompt)
	}
	_ = w.Close()
	var file, created struct{ ID string }
	c.post("/v1/files", w.FormDataContentType(), traceparent, &form, &file)
	body, err := json.Marshal(map[string]any{
		"input_file_id": file.ID, "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": map[string]string{"team": tracedTeam},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.post("/v1/batches", "application/json", traceparent, bytes.NewReader(body), &created)
	id, err := batch.ParseID(created.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func (c *tracedCluster) post(path, kind, traceparent string, body io.Reader, into any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.server+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	if traceparent != "" {
		req.Header.Set("Traceparent", traceparent)
	}
	resp, err := (&http.Client{Timeout: testenv.Patience}).Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(raw, into) != nil {
		c.t.Fatalf("POST %s: status %d, %v: %s", path, resp.StatusCode, err, raw)
	}
}

func traceOf(id batch.ID, line int32) string {
	return tracing.TraceID(batch.RequestID{Batch: id, Line: line}).String()
}

// one returns the one span of a list with a name.
func one(t *testing.T, spans []collector.Span, name string) (found collector.Span) {
	t.Helper()
	n := 0
	for _, s := range spans {
		if s.Name == name {
			found, n = s, n+1
		}
	}
	if n != 1 {
		t.Fatalf("%d spans %q, want one of %v", n, name, namesOf(spans))
	}
	return found
}

func namesOf(spans []collector.Span) (names []string) {
	for _, s := range spans {
		names = append(names, s.Name)
	}
	return names
}

// A request is one trace, from its publish by a dispatcher to its result, by a
// consumer, with links to what works on many, and to the batch's creation by an API.
func TestTraceOfRequest(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			t.Parallel()
			c := newTracedCluster(t)
			if protocol == "grpc" {
				c.env = append(c.env, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.spans.GRPC)
			}
			const client, clientSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
			c.begin("api", "dispatcher", "consumer")
			id := c.submit("00-"+client+"-"+clientSpan+"-01", "completes", "retried", "refused", "hangs")
			testenv.Eventually(t, "a call hangs", func() bool { return len(c.callsOf("hangs")) == 1 })
			c.await(id, "the others are done", func(b postgres.Batch) bool { return b.Counts.Done() == 3 })
			c.post("/v1/batches/"+id.String()+"/cancel", "application/json", "", nil, new(struct{}))
			c.awaitEnd(id)
			// The cut of the call is exported before the stop would cut it.
			testenv.Eventually(t, "the call of the canceled request has ended", func() bool {
				return slices.Contains(namesOf(c.spans.Trace(traceOf(id, 4))), "process gpt-4")
			})
			c.flush()
			c.check(id)
			c.checkCompleted(id, client, clientSpan)
			c.checkOthers(id)
			for _, secret := range []string{tracedKey, tracedPrompt, tracedAnswer, tracedTeam, "custom_id", "hangs"} {
				if strings.Contains(c.spans.Text(), secret) {
					t.Errorf("a span has %q", secret)
				}
			}
			if *printTrace {
				c.spans.Print(os.Stdout, client)
				c.spans.Print(os.Stdout, traceOf(id, 2))
				for _, name := range []string{"claim", "start flush", "result flush"} {
					c.spans.Print(os.Stdout, c.spans.Named(name)[0].Trace)
				}
			}
		})
	}
}

func (c *tracedCluster) checkCompleted(id batch.ID, client, clientSpan string) {
	t := c.t
	t.Helper()
	asked := one(t, c.spans.Trace(client), "POST /v1/batches")
	uploaded := one(t, c.spans.Trace(client), "upload file")
	create := one(t, c.spans.Trace(client), "create batch")
	if asked.Parent != clientSpan || asked.Kind != "server" || asked.Service != "fusillade-api" || asked.Attributes["http.response.status_code"] != "200" {
		t.Errorf("the request to the API is %+v", asked)
	}
	if create.Parent != asked.ID || create.Attributes["fusillade.batch.id"] != id.String() || uploaded.Attributes["fusillade.requests"] != "4" {
		t.Errorf("created by %+v, uploaded by %+v", create, uploaded)
	}
	spans := c.spans.Trace(traceOf(id, 1))
	if got := namesOf(spans); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"chat gpt-4", "finish", "process gpt-4", "publish gpt-4", "start"}) {
		t.Fatalf("the trace of a request has %q", got)
	}
	publish, process, call := one(t, spans, "publish gpt-4"), one(t, spans, "process gpt-4"), one(t, spans, "chat gpt-4")
	start, finish := one(t, spans, "start"), one(t, spans, "finish")
	if publish.Parent != "" || process.Parent != publish.ID || start.Parent != process.ID || call.Parent != process.ID || finish.Parent != process.ID {
		t.Errorf("parents: publish %q, process %q, start %q, call %q, finish %q", publish.Parent, process.Parent, start.Parent, call.Parent, finish.Parent)
	}
	for name, s := range map[string]collector.Span{"fusillade-dispatcher producer": publish, "fusillade-consumer consumer": process, "fusillade-consumer client": call} {
		if s.Service+" "+s.Kind != name || s.Failed || s.End.Before(s.Start) {
			t.Errorf("%s is of %s %s, failed %v", s.Name, s.Service, s.Kind, s.Failed)
		}
	}
	claims := c.spans.Named("claim")
	if len(claims) == 0 || !slices.Equal(publish.Links, []collector.Link{create.Link(), claims[0].Link()}) {
		t.Errorf("the publish has the links %v, want to %v and the claim", publish.Links, create.Link())
	}
	c.linked(start, "start flush", process)
	c.linked(finish, "result flush", process)
	if !slices.ContainsFunc(claims, func(s collector.Span) bool { return slices.Contains(s.Links, publish.Link()) }) {
		t.Error("no claim has a link to the request")
	}
	headers := c.callsOf("completes")
	if len(headers) != 1 || headers[0].Get("Traceparent") != "00-"+call.Trace+"-"+call.ID+"-01" {
		t.Errorf("the endpoint got the traceparent %q, want that of %s", headers[0].Get("Traceparent"), call.ID)
	}
	got := maps.Clone(call.Attributes)
	for _, key := range []string{"server.port", "fusillade.request.id"} {
		if got[key] == "" {
			t.Errorf("the call lacks %s", key)
		}
		delete(got, key)
	}
	if diff := cmp.Diff(map[string]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4", "gen_ai.response.model": "gpt-4-0613",
		"gen_ai.usage.input_tokens": "11", "gen_ai.usage.output_tokens": "7", "gen_ai.response.finish_reasons": "stop",
		"server.address": "127.0.0.1", "http.request.method": "POST", "http.response.status_code": "200", "fusillade.attempt": "0",
	}, got); diff != "" {
		t.Errorf("attributes of the call (-want +got):\n%s", diff)
	}
}

// linked checks that a stage leads to its flush, and the flush to the request.
func (c *tracedCluster) linked(stage collector.Span, flush string, process collector.Span) {
	c.t.Helper()
	for _, f := range c.spans.Named(flush) {
		if slices.Contains(stage.Links, f.Link()) && slices.Contains(f.Links, process.Link()) && f.Parent == "" && f.Trace != process.Trace {
			return
		}
	}
	c.t.Errorf("%s has the links %v, to no %s with a link to %v", stage.Name, stage.Links, flush, process.Link())
}

func (c *tracedCluster) checkOthers(id batch.ID) {
	t := c.t
	t.Helper()
	var calls, outcomes []string
	for _, s := range c.spans.Trace(traceOf(id, 2)) {
		switch s.Name {
		case "chat gpt-4":
			calls = append(calls, s.Attributes["fusillade.attempt"]+" "+s.Attributes["http.response.status_code"]+" "+s.Attributes["error.type"])
		case "process gpt-4":
			outcomes = append(outcomes, s.Attributes["fusillade.outcome"]+" "+s.Attributes["fusillade.reason"])
		}
	}
	if !slices.Equal(calls, []string{"0 503 503", "1 200 "}) || !slices.Equal(outcomes, []string{"retried retriable_http_status", "completed "}) {
		t.Errorf("a retried request has the calls %q and the outcomes %q", calls, outcomes)
	}
	for _, header := range c.callsOf("retried") {
		if !strings.HasPrefix(header.Get("Traceparent"), "00-"+traceOf(id, 2)+"-") {
			t.Errorf("a call of a retried request has the traceparent %s", header.Get("Traceparent"))
		}
	}
	for line, want := range map[int32]string{3: "400 failed", 4: "canceled canceled"} {
		spans := c.spans.Trace(traceOf(id, line))
		call, process := one(t, spans, "chat gpt-4"), one(t, spans, "process gpt-4")
		if got := call.Attributes["error.type"] + " " + process.Attributes["fusillade.outcome"]; got != want || !call.Failed {
			t.Errorf("line %d: call and outcome are %q, want %q", line, got, want)
		}
	}
	cancel := c.spans.Named("POST /v1/batches/{id}/cancel")
	if len(cancel) != 1 || cancel[0].Attributes["fusillade.batch.id"] != id.String() {
		t.Errorf("the cancel is %+v", cancel)
	}
}

// A consumer that dies takes its spans along; what the next one does is in the same
// trace.
func TestTraceAfterCrash(t *testing.T) {
	t.Parallel()
	c := newTracedCluster(t)
	c.begin("api", "dispatcher")
	victim := c.start("consumer")
	id := c.submit("", "hangs")
	testenv.Eventually(t, "the call hangs", func() bool { return len(c.callsOf("hangs")) == 1 })
	victim.Kill()
	c.release()
	c.begin("consumer")
	c.awaitEnd(id)
	c.flush()
	c.check(id)
	trace := traceOf(id, 1)
	completed, calls := 0, c.callsOf("hangs")
	for _, s := range c.spans.Trace(trace) {
		// A message that is delivered once more ends as one that nobody needs.
		if s.Name == "process gpt-4" && s.Attributes["fusillade.outcome"] == "completed" {
			completed++
		}
	}
	if completed != 1 || len(calls) != 2 {
		t.Errorf("after a crash the request was completed %d times, with %d calls, want once with 2", completed, len(calls))
	}
	for _, header := range calls {
		if !strings.HasPrefix(header.Get("Traceparent"), "00-"+trace+"-") {
			t.Errorf("a call has the traceparent %s, want of trace %s", header.Get("Traceparent"), trace)
		}
	}
}

// A request that waited in Postgres for its retry is published again, in its trace.
func TestTraceOfSecondClaim(t *testing.T) {
	t.Parallel()
	c := newTracedCluster(t, "FUSILLADE_MAX_STREAM_BACKOFF_MS=1")
	c.begin("api", "dispatcher", "consumer")
	id := c.submit("", "retried")
	c.awaitEnd(id)
	c.flush()
	var publishes, processes []collector.Span
	for _, s := range c.spans.Trace(traceOf(id, 1)) {
		switch s.Name {
		case "publish gpt-4":
			publishes = append(publishes, s)
		case "process gpt-4":
			processes = append(processes, s)
		}
	}
	if len(publishes) != 2 || len(processes) != 2 {
		t.Fatalf("%d publishes and %d deliveries, want 2 of each", len(publishes), len(processes))
	}
	if publishes[1].Parent != publishes[0].ID || publishes[1].Attributes["fusillade.claim"] != "2" || processes[1].Parent != publishes[1].ID {
		t.Errorf("published %+v, then %+v", publishes[0], publishes[1])
	}
}

// Whether a request is sampled follows from its trace, in every process: all of its
// spans are exported or none, and its endpoint is told.
func TestTracesSampled(t *testing.T) {
	t.Parallel()
	const n = 40
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("r%d", i)
	}
	for _, ratio := range []string{"0", "0.5"} {
		t.Run(ratio, func(t *testing.T) {
			t.Parallel()
			c := newTracedCluster(t, "OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG="+ratio)
			c.begin("api", "dispatcher", "consumer")
			id := c.submit("", ids...)
			c.awaitEnd(id)
			c.flush()
			sampled := 0
			for i, name := range ids {
				header := c.callsOf(name)[0].Get("Traceparent")
				spans := c.spans.Trace(traceOf(id, int32(i+1)))
				if !strings.HasPrefix(header, "00-"+traceOf(id, int32(i+1))+"-") {
					t.Errorf("%s has the traceparent %s", name, header)
				}
				if is := strings.HasSuffix(header, "-01"); is && len(spans) == 5 {
					sampled++
				} else if is || len(spans) > 0 {
					t.Errorf("%s has the traceparent %s and %d spans", name, header, len(spans))
				}
			}
			// Work on many is exported if one of them is: no link leads nowhere.
			exported := make(map[collector.Link]bool)
			for _, s := range c.spans.Spans(nil) {
				exported[s.Link()] = true
			}
			for _, s := range c.spans.Spans(nil) {
				for _, l := range s.Links {
					if !exported[l] {
						t.Errorf("%s has a link to a span that was not exported", s.Name)
					}
				}
				if s.Name == "finish" && len(s.Links) == 0 {
					t.Error("finish has no link to its flush")
				}
			}
			if ratio == "0" && (sampled > 0 || len(c.spans.Spans(nil)) > 0) || ratio != "0" && (sampled == 0 || sampled == n) {
				t.Errorf("%d of %d requests are sampled, and there are %d spans", sampled, n, len(c.spans.Spans(nil)))
			}
		})
	}
}

// The dispatcher decides whether a request is sampled, and the consumer follows; where
// the dispatcher has no traces the consumer decides.
func TestConsumerFollowsSampling(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		dispatcher string
		flag       string
		spans      []string // of the request
	}{
		"not sampled": {"OTEL_TRACES_SAMPLER=always_off", "-00", nil},
		"no traces":   {"OTEL_SDK_DISABLED=true", "-01", []string{"chat gpt-4", "finish", "process gpt-4", "start"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTracedCluster(t)
			c.begin("api", "consumer")
			c.env = append(c.env, tt.dispatcher)
			c.begin("dispatcher")
			id := c.submit("", "a")
			c.awaitEnd(id)
			c.flush()
			spans := namesOf(c.spans.Trace(traceOf(id, 1)))
			if slices.Sort(spans); !slices.Equal(spans, tt.spans) {
				t.Errorf("the request has the spans %q, want %q", spans, tt.spans)
			}
			if got := c.callsOf("a")[0].Get("Traceparent"); !strings.HasPrefix(got, "00-"+traceOf(id, 1)+"-") || !strings.HasSuffix(got, tt.flag) {
				t.Errorf("the endpoint got the traceparent %s, want one of trace %s that ends with %s", got, traceOf(id, 1), tt.flag)
			}
		})
	}
}

// Without the variables nothing is exported, and no message of the stream carries a
// trace; a collector that is away holds up nothing.
func TestTracesOffOrAway(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"disabled": {"OTEL_SDK_DISABLED=true"},
		"none":     {"OTEL_TRACES_EXPORTER=none"},
		"away":     {"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT=200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTracedCluster(t, settings...)
			c.begin("api", "dispatcher", "consumer")
			consumer := c.processes[2]
			id := c.submit("", "a", "b", "retried")
			if b := c.awaitEnd(id); b.Counts.Completed != 3 {
				t.Errorf("counts are %+v", b.Counts)
			}
			if name == "away" {
				testenv.Eventually(t, "the consumer says that spans are dropped", func() bool { return strings.Contains(consumer.Log(), "spans cannot be exported") })
			}
			c.flush()
			if n := len(c.spans.Spans(nil)); n != 0 {
				t.Errorf("%d spans were exported", n)
			}
			if off := name != "away"; off == strings.Contains(consumer.Log(), "spans are exported") {
				t.Errorf("the log:\n%s", consumer.Log())
			}
		})
	}
}

// One process that has all roles exports the same, to the last span before it ends.
func TestTraceOfRun(t *testing.T) {
	t.Parallel()
	const n = 300
	spans := collector.New(t)
	c := newCluster(t, mock.Settings{}, "OTEL_EXPORTER_OTLP_ENDPOINT="+spans.HTTP, "OTEL_SERVICE_NAME=nightly", "OTEL_BSP_MAX_QUEUE_SIZE=10000")
	dir := t.TempDir()
	c.run("run", "-i", requests(t, n, "gpt-4"), "-o", filepath.Join(dir, "out.jsonl"), "--data-dir", filepath.Join(dir, "data"))
	create := one(t, spans.Spans(nil), "create batch")
	if create.Service != "nightly" {
		t.Errorf("the service is %q", create.Service)
	}
	id, err := batch.ParseID(create.Attributes["fusillade.batch.id"])
	if err != nil {
		t.Fatal(err)
	}
	for line := range int32(n) {
		got := namesOf(spans.Trace(traceOf(id, line+1)))
		if slices.Sort(got); !slices.Equal(got, []string{"chat gpt-4", "finish", "process gpt-4", "publish gpt-4", "start"}) {
			t.Fatalf("line %d has the spans %q", line+1, got)
		}
	}
}
