package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

const (
	chunkA     = `data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":"A"},"finish_reason":null}]}` + "\n\n"
	chunkB     = `data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{"content":"B"},"finish_reason":null}]}` + "\n\n"
	chunkEnd   = `data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	chunkUsage = `data: {"id":"c","object":"chat.completion.chunk","model":"m-1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}` + "\n\n"
	chunkDone  = "data: [DONE]\n\n"
	folded     = `{"id":"c","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"AB"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":6}}`
)

// streamRequest asks for a stream by itself.
func streamRequest(base, path string) Request {
	r := chatRequest(base)
	r.Path, r.Body = path, []byte(`{"model":"m","stream":true}`)
	return r
}

func TestStreamedAnswers(t *testing.T) {
	t.Parallel()
	const chat, sse = "/v1/chat/completions", "text/event-stream; charset=utf-8"
	event := func(data string) string { return "data: " + data + "\n\n" }
	for name, test := range map[string]struct {
		path, contentType, body string
		want                    batch.Reason
	}{
		"an answer":                      {chat, sse, chunkA + chunkB + chunkEnd + chunkUsage + chunkDone, ""},
		"the same with another type":     {chat, "application/json", chunkA + chunkB + chunkEnd + chunkUsage + chunkDone, ""},
		"a plain answer":                 {chat, "application/json", folded, ""},
		"a plain answer as a stream":     {chat, sse, "\n" + folded, ""},
		"no mark":                        {chat, sse, chunkA + chunkEnd, ""},
		"several objects":                {chat, "application/x-ndjson", folded + "\n" + folded, batch.UnexpectedStream},
		"a page":                         {chat, "text/html", "<html>data: </html>", batch.MalformedAnswer},
		"nothing":                        {chat, sse, "", batch.NoAnswer},
		"keep-alives alone":              {chat, sse, ": ping\n\n: ping\n\n", batch.NetworkError},
		"the mark alone":                 {chat, sse, chunkDone, batch.MalformedAnswer},
		"broken off":                     {chat, sse, chunkA + chunkB, batch.NetworkError},
		"broken off in an event":         {chat, sse, chunkA + chunkEnd[:60], batch.NetworkError},
		"an event that is no JSON":       {chat, sse, chunkA + event(`{"choices":[}`) + chunkEnd + chunkDone, batch.MalformedAnswer},
		"words between":                  {chat, sse, chunkA + event("ping") + chunkEnd + chunkDone, ""},
		"error: overloaded":              {chat, sse, chunkA + event(`{"error":{"message":"overloaded","type":"server_error","code":503}}`) + chunkDone, batch.RetriableErrorBody},
		"error: rate limit":              {chat, sse, event(`{"error":{"message":"slow down","type":"rate_limit_error","code":"429"}}`), batch.RetriableErrorBody},
		"error: quota":                   {chat, sse, event(`{"error":{"message":"pay","code":"insufficient_quota"}}`), batch.QuotaExhausted},
		"error: invalid":                 {chat, sse, chunkA + event(`{"error":{"message":"bad","type":"invalid_request_error","code":400}}`), batch.NonRetriableErrorBody},
		"error: of vLLM":                 {chat, sse, chunkA + event(`{"object":"error","message":"x","type":"BadRequestError","param":null,"code":400}`) + chunkDone, batch.NonRetriableErrorBody},
		"error: in words":                {chat, sse, chunkA + "event: error\ndata: engine died\n\n", batch.RetriableErrorBody},
		"error: of OpenRouter":           {chat, sse, chunkA + event(`{"id":"c","error":{"code":502,"message":"gone"},"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}`) + chunkDone, batch.RetriableErrorBody},
		"error: as a finish_reason":      {chat, sse, chunkA + event(`{"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}`) + chunkDone, batch.RetriableErrorBody},
		"error: null beside a choice":    {chat, sse, event(`{"error":null,"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}`) + chunkDone, ""},
		"responses: completed":           {"/v1/responses", sse, event(`{"type":"response.completed","response":{"status":"completed","output":[{"type":"message"}]}}`), ""},
		"responses: incomplete":          {"/v1/responses", sse, event(`{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[]}}`), batch.ResponseIncomplete},
		"responses: failed":              {"/v1/responses", sse, event(`{"type":"response.failed","response":{"status":"failed","error":{"code":"invalid_prompt","message":"x"},"output":[]}}`), batch.ResponseFailed},
		"responses: failed, may pass":    {"/v1/responses", sse, event(`{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"},"output":[]}}`), batch.RetriableErrorBody},
		"responses: error":               {"/v1/responses", sse, "event: error\n" + event(`{"type":"error","code":"rate_limit_exceeded","message":"x","param":null,"sequence_number":1}`), batch.RetriableErrorBody},
		"responses: broken off":          {"/v1/responses", sse, event(`{"type":"response.output_text.delta","delta":"Hi"}`), batch.NetworkError},
		"responses: the mark alone":      {"/v1/responses", sse, event(`{"type":"response.output_text.delta","delta":"Hi"}`) + chunkDone, batch.NetworkError},
		"messages: overloaded":           {"/v1/messages", sse, "event: error\n" + event(`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`), batch.RetriableErrorBody},
		"messages: broken off":           {"/v1/messages", sse, event(`{"type":"message_start","message":{"id":"x","content":[],"stop_reason":null}}`), batch.NetworkError},
		"a path whose stream is unknown": {"/v1/images/generations", sse, event(`{"type":"image_generation.completed"}`), batch.UnexpectedStream},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.contentType)
				_, _ = io.WriteString(w, test.body)
			})
			got := newClient(t, Config{}).Do(t.Context(), streamRequest(base, test.path))
			if got.Reason != test.want {
				t.Fatalf("%q (%s), want %q; body %s", got.Reason, got.Detail, test.want, got.Response.Body)
			}
			if name == "an answer" {
				sameJSON(t, []byte(folded), got.Response.Body)
				if got.Response.Usage.CompletionTokens != 6 || got.Response.Model != "m-1" || got.FirstToken <= 0 {
					t.Errorf("usage %+v, model %q, first token after %v", got.Response.Usage, got.Response.Model, got.FirstToken)
				}
			}
		})
	}
	// What nobody asked for is refused as ever.
	base := newServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, chunkA+chunkEnd+chunkDone) })
	for _, body := range []string{`{"model":"m"}`, `{"stream":false}`, `{"stream":null}`, `{"messages":["stream",{"stream":true}]}`, `[{"stream":true}]`} {
		request := chatRequest(base)
		request.Body = []byte(body)
		if got := newClient(t, Config{}).Do(t.Context(), request); got.Reason != batch.UnexpectedStream {
			t.Errorf("%s: %q, want %q", body, got.Reason, batch.UnexpectedStream)
		}
	}
}

// An error status is an error, also for a call that asks for a stream.
func TestStreamRefused(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"error":{"message":"slow down"}}`)
	})
	got := newClient(t, Config{}).Do(t.Context(), streamRequest(base, "/v1/chat/completions"))
	if got.Reason != batch.RetriableHTTPStatus || string(got.Response.Body) != `{"error":{"message":"slow down"}}` {
		t.Errorf("%q, body %s", got.Reason, got.Response.Body)
	}
}

func TestStreamedAndCompressed(t *testing.T) {
	t.Parallel()
	first := make(chan struct{})
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		for _, chunk := range []string{chunkA, chunkB, chunkEnd, chunkUsage, chunkDone} {
			_, _ = io.WriteString(z, chunk)
			_ = z.Flush()
			w.(http.Flusher).Flush()
		}
		close(first)
	})
	got := newClient(t, Config{}).Do(t.Context(), streamRequest(base, "/v1/chat/completions"))
	<-first
	if got.Reason != "" {
		t.Fatalf("%s: %s", got.Reason, got.Detail)
	}
	sameJSON(t, []byte(folded), got.Response.Body)
}

// sends is a server that sends parts, each after the one before was asked for.
func sends(t testing.TB, h2 bool, next <-chan string, gone chan<- struct{}) (url string, roots *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case part, more := <-next:
				if !more {
					return
				}
				_, _ = io.WriteString(w, part)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				close(gone)
				return
			}
		}
	}))
	if h2 {
		server.EnableHTTP2 = true
		server.StartTLS()
		roots = &tls.Config{RootCAs: x509.NewCertPool()}
		roots.RootCAs.AddCert(server.Certificate())
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server.URL, roots
}

// A stream that flows may take longer than an answer in one piece; one that does
// not begin, or stops, ends early.
func TestStreamTimeouts(t *testing.T) {
	t.Parallel()
	const short = 50 * time.Millisecond
	t.Run("it flows", func(t *testing.T) {
		t.Parallel()
		next := make(chan string)
		base, _ := sends(t, false, next, make(chan struct{}))
		go func() {
			defer close(next)
			next <- chunkA
			for began := time.Now(); time.Since(began) < 4*short; { // beyond Timeout
				next <- strings.Replace(chunkB, `"B"`, `"."`, 1)
			}
			next <- chunkEnd + chunkDone
		}()
		got := newClient(t, Config{Timeout: 2 * short, FirstTokenTimeout: ample, StallTimeout: ample}).Do(t.Context(), streamRequest(base, "/v1/chat/completions"))
		if got.Reason != "" || got.Elapsed < 2*short {
			t.Errorf("%q (%s) after %v", got.Reason, got.Detail, got.Elapsed)
		}
	})
	for name, test := range map[string]struct {
		cfg    Config
		parts  []string
		detail string
	}{
		"nothing": {Config{FirstTokenTimeout: short}, nil, "timed out: no part of a streamed answer within 50ms"},
		"keep-alives": {Config{FirstTokenTimeout: short}, []string{": ping\n\n", "event: ping\ndata: {}\n\n", `data: {"choices":[{"delta":{"role":"assistant","content":""}}]}` + "\n\n"},
			"timed out: no part of a streamed answer within 50ms"},
		"it stalls":                  {Config{StallTimeout: short}, []string{chunkA, ": ping\n\n"}, "timed out: a streamed answer stopped coming for 50ms"},
		"in all":                     {Config{StreamTimeout: short}, []string{chunkA}, "timed out after 50ms in the middle of a streamed answer"},
		"the rest of a plain answer": {Config{Timeout: short}, []string{"{"}, "timed out after 50ms reading the body of status 200"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next, gone := make(chan string, len(test.parts)), make(chan struct{})
			for _, part := range test.parts {
				next <- part
			}
			base, _ := sends(t, false, next, gone)
			cfg := test.cfg
			for _, timeout := range []*time.Duration{&cfg.Timeout, &cfg.FirstTokenTimeout, &cfg.StallTimeout, &cfg.StreamTimeout} {
				if *timeout == 0 {
					*timeout = ample
				}
			}
			got := newClient(t, cfg).Do(t.Context(), streamRequest(base, "/v1/chat/completions"))
			if got.Reason != batch.Timeout || got.Detail != test.detail {
				t.Errorf("%q: %s", got.Reason, got.Detail)
			}
			<-gone // the engine is told
		})
	}
}

// A call that is cut off ends at the endpoint too.
func TestCancelledStreamFreesTheEndpoint(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", h2), func(t *testing.T) {
			t.Parallel()
			next, gone := make(chan string), make(chan struct{})
			base, roots := sends(t, h2, next, gone)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				next <- chunkA
				next <- chunkB
				cancel()
			}()
			if got := newClient(t, Config{TLS: roots}).Do(ctx, streamRequest(base, "/v1/chat/completions")); got.Reason != batch.TaskTerminated {
				t.Errorf("%q: %s", got.Reason, got.Detail)
			}
			<-gone
		})
	}
}

func TestStreamKeepsItsConnection(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, chunkA+chunkEnd+chunkDone)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, Config{})
	for range 5 {
		if got := client.Do(t.Context(), streamRequest(server.URL, "/v1/chat/completions")); got.Reason != "" {
			t.Fatal(got.Detail)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// An endpoint that refuses to be asked for the usage is not asked again.
func TestStreamOptionsRefused(t *testing.T) {
	t.Parallel()
	var bodies []string
	asked := map[string]string{} // by Idempotency-Key
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(body))
		key := r.Header.Get("Idempotency-Key")
		if before, known := asked[key]; known && bytes.Contains(body, []byte("stream_options")) != strings.Contains(before, "stream_options") {
			t.Errorf("%s and %s have the key %s", before, body, key)
		}
		asked[key] = string(body)
		switch {
		case bytes.Contains(body, []byte("stream_options")):
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs are not permitted"}]}`)
		case bytes.Contains(body, []byte("bad")):
			w.WriteHeader(http.StatusBadRequest)
		default:
			_, _ = io.WriteString(w, chunkA+chunkEnd+chunkDone)
		}
	})
	client := newClient(t, Config{})
	do := func(body string, want batch.Reason) {
		t.Helper()
		request := chatRequest(base)
		request.Body, request.Options = []byte(body), &endpoint.Options{Stream: endpoint.On}
		if got := client.Do(t.Context(), request); got.Reason != want {
			t.Fatalf("%s: %q (%s)", body, got.Reason, got.Detail)
		}
	}
	const asking, plain = `{"stream":true,"stream_options":{"include_usage":true},"model":"m"}`, `{"stream":true,"model":"m"}`
	do(`{"model":"m","bad":1}`, batch.NonRetriableHTTPStatus) // what the request itself is refused for says nothing
	do(`{"model":"m"}`, "")
	do(`{"model":"m"}`, "")
	do(`{"model":"other"}`, "")
	want := []string{
		strings.Replace(asking, `"m"`, `"m","bad":1`, 1), strings.Replace(plain, `"m"`, `"m","bad":1`, 1),
		asking, plain, plain,
		strings.Replace(asking, `"m"`, `"other"`, 1), strings.Replace(plain, `"m"`, `"other"`, 1),
	}
	if got := strings.Join(bodies, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("sent:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

// askStream returns what a body asks for as it is sent, and the body.
func askStream(path, body string, stream bool) (streamAsk, string) {
	edited, err := editBody(path, []byte(body), changes{stream: stream})
	if err != nil {
		panic(err)
	}
	return edited.ask, string(edited.splice(edited.ask.usage))
}

func TestAskStream(t *testing.T) {
	t.Parallel()
	const chat, text, responses, messages = "/v1/chat/completions", "/v1/completions?x=1", "/v1/responses", "/v1/messages"
	for _, test := range []struct {
		path, body string
		want       bool
		sent       string // empty: no stream is asked for
		choices    int
	}{
		{chat, `{"model":"m"}`, false, "", 0},
		{chat, `{"model":"m"}`, true, `{"stream":true,"stream_options":{"include_usage":true},"model":"m"}`, 1},
		{chat, ` {  }`, true, ` {"stream":true,"stream_options":{"include_usage":true}  }`, 1},
		{chat, `{"stream":true}`, false, `{"stream_options":{"include_usage":true},"stream":true}`, 1},
		{chat, `{"stre\u0061m":true}`, false, `{"stream_options":{"include_usage":true},"stre\u0061m":true}`, 1},
		{chat, `{"stream": false, "n":3}`, true, `{"stream_options":{"include_usage":true},"stream": true, "n":3}`, 3},
		{chat, `{"stream":null,"stream":false}`, true, `{"stream_options":{"include_usage":true},"stream":true,"stream":true}`, 1},
		{chat, `{"stream":false,"stream":true}`, false, `{"stream_options":{"include_usage":true},"stream":false,"stream":true}`, 1},
		{chat, `{"stream":true,"stream":false}`, false, "", 0},
		{chat, `{"stream":true,"stream_options":{"include_usage":true}}`, false, `{"stream":true,"stream_options":{"include_usage":true}}`, 1},
		{chat, `{"stream":true,"stream_options":{"include_usage": false }}`, false, `{"stream":true,"stream_options":{"include_usage": true }}`, 1},
		{chat, `{"stream":true,"stream_options":{ }}`, false, `{"stream":true,"stream_options":{"include_usage":true }}`, 1},
		{chat, `{"stream_options":{"x":1},"stream":true}`, false, `{"stream_options":{"include_usage":true,"x":1},"stream":true}`, 1},
		{chat, `{"stream_options":null,"a":"é\"}"}`, true, `{"stream":true,"stream_options":{"include_usage":true},"a":"é\"}"}`, 1},
		{chat, `{"stream_options":7}`, true, `{"stream":true,"stream_options":7}`, 1},
		{text, `{"n":2,"prompt":["a","b"]}`, true, `{"stream":true,"stream_options":{"include_usage":true},"n":2,"prompt":["a","b"]}`, 4},
		{text, `{"prompt":[1,2,3]}`, true, `{"stream":true,"stream_options":{"include_usage":true},"prompt":[1,2,3]}`, 1},
		{text, `{"prompt":[[1],[2,3]]}`, true, `{"stream":true,"stream_options":{"include_usage":true},"prompt":[[1],[2,3]]}`, 2},
		{responses, `{"input":"x"}`, true, `{"stream":true,"input":"x"}`, 1},
		{messages, `{"stream":true}`, false, `{"stream":true}`, 1},
		{"/v1/embeddings", `{"stream":true}`, true, "", 0},
		{chat, `[]`, true, "", 0},
		{chat, ``, true, "", 0},
	} {
		got, body := askStream(test.path, test.body, test.want)
		switch {
		case test.sent == "" && (got.kind != 0 || body != test.body):
			t.Errorf("%s %s: asks for a stream with %s", test.path, test.body, body)
		case test.sent != "" && (got.kind == 0 || body != test.sent || got.choices != test.choices):
			t.Errorf("%s %s: kind %d, %d choices, sent\n%s, want\n%s", test.path, test.body, got.kind, got.choices, body, test.sent)
		}
	}
}

// Nothing but what is asked changes, whatever the body.
func TestAskStreamChangesNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var out strings.Builder
		out.WriteString(rapid.SampledFrom([]string{``, `{"stream":true,`, ` {"stream" : {"stream":[true]} , `, `{"stream_options":{"a":[{}]},`, `{"stream_options": null ,`}).Draw(t, "begin"))
		begun := out.Len() > 0
		if begun {
			out.WriteString(`"x":`)
		}
		drawValue(t, &out, 0)
		if begun {
			out.WriteByte('}')
		}
		body := out.String()
		var before map[string]json.RawMessage
		_, sent := askStream("/v1/chat/completions", body, true)
		if json.Unmarshal([]byte(body), &before) != nil || before == nil {
			if sent != body {
				t.Fatalf("%s became %s", body, sent)
			}
			return
		}
		var after map[string]json.RawMessage
		if err := json.Unmarshal([]byte(sent), &after); err != nil {
			t.Fatalf("%s became %s: %v", body, sent, err)
		}
		if string(after["stream"]) != "true" {
			t.Fatalf("%s became %s", body, sent)
		}
		for name, value := range before {
			if name != "stream" && name != "stream_options" && !bytes.Equal(value, after[name]) {
				t.Fatalf("%s: %q became %s", body, name, after[name])
			}
		}
	})
}
