package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fusillade/internal/batch"
)

// ample is a timeout that no test waits for.
const ample = time.Minute

func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = ample
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func newServer(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func chatRequest(baseURL string) Request {
	return Request{
		ID:       batch.RequestID{Batch: batch.ID{1, 2, 3}, Line: 7},
		CustomID: "my-request",
		Attempt:  2,
		Method:   "POST",
		BaseURL:  baseURL,
		Path:     "/v1/chat/completions",
		APIKey:   "key-of-the-user",
		Body:     []byte(`{"model":"m","prompt":"prompt-of-the-user"}`),
	}
}

func TestDoClassifiesStatus(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("X-Request-Id", "up-1")
		w.Header().Set("Retry-After", "3")
		w.Header().Set("Location", "/200")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = io.WriteString(w, `{"model":"m-1","usage":{"prompt_tokens":5,"completion_tokens":6}}`)
		}
	})
	client := newClient(t, Config{})
	for _, test := range []struct {
		status int
		want   batch.Reason
	}{
		{200, ""}, {201, ""}, {204, batch.NoAnswer}, {202, batch.NoAnswer},
		{400, batch.NonRetriableHTTPStatus}, {401, batch.NonRetriableHTTPStatus}, {422, batch.NonRetriableHTTPStatus},
		{404, batch.NotFound}, {408, batch.RetriableHTTPStatus}, {429, batch.RetriableHTTPStatus},
		{500, batch.RetriableHTTPStatus}, {503, batch.RetriableHTTPStatus}, {599, batch.RetriableHTTPStatus},
	} {
		request := chatRequest(base)
		request.Path = fmt.Sprintf("/%d", test.status)
		got := client.Do(t.Context(), request)

		want := Outcome{Reason: test.want, Response: Response{StatusCode: test.status, RequestID: "up-1"}}
		if test.status != http.StatusNoContent {
			want.Response.Body = []byte(`{"model":"m-1","usage":{"prompt_tokens":5,"completion_tokens":6}}`)
			want.Response.Model = "m-1"
			want.Response.Usage = batch.Usage{PromptTokens: 5, CompletionTokens: 6}
		}
		if test.want != "" {
			want.RetryAfter = 3 * time.Second
			want.Detail = fmt.Sprintf("upstream answered with status %d", test.status)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Outcome{}, "Elapsed", "Refusal")); diff != "" {
			t.Errorf("status %d (-want +got):\n%s", test.status, diff)
		}
		if got.Elapsed <= 0 {
			t.Errorf("status %d: elapsed %v", test.status, got.Elapsed)
		}
	}
}

// What an endpoint says of its own error goes before its status, but for what is
// final; of a success it says nothing.
func TestShouldRetryHeader(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		header string
		status int
		body   string
		want   batch.Reason
	}{
		{"false", 429, `{"error":{"code":"rate_limit_exceeded"}}`, batch.NonRetriableHTTPStatus},
		{"false", 500, ``, batch.NonRetriableHTTPStatus},
		{"false", 404, ``, batch.NonRetriableHTTPStatus},
		{"false", 529, `{"type":"error","error":{"type":"overloaded_error"}}`, batch.NonRetriableHTTPStatus},
		{" False ", 503, ``, batch.NonRetriableHTTPStatus},
		{"true", 400, ``, batch.RetriableHTTPStatus},
		{"true", 409, `{"error":{"code":"conflict"}}`, batch.RetriableHTTPStatus},
		{"True", 422, ``, batch.RetriableHTTPStatus},
		{"true", 404, ``, batch.NotFound},
		{"true", 501, ``, batch.NotImplemented},
		{"true", 429, `{"error":{"code":"insufficient_quota"}}`, batch.QuotaExhausted},
		{"true", 404, `{"error":{"code":"model_not_found"}}`, batch.ModelNotFound},
		{"perhaps", 429, ``, batch.RetriableHTTPStatus},
		{"1", 400, ``, batch.NonRetriableHTTPStatus},
		{"", 500, ``, batch.RetriableHTTPStatus},
		{"true", 200, okBody, ""},
		{"false", 200, okBody, ""},
		{"true", 302, ``, batch.Redirected},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Should-Retry", test.header)
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		if got := newClient(t, Config{}).Do(t.Context(), chatRequest(base)); got.Reason != test.want {
			t.Errorf("%q with status %d: %q, want %q", test.header, test.status, got.Reason, test.want)
		}
	}
}

func TestDoSendsRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, okBody)
	})
	client := newClient(t, Config{})
	request := chatRequest(base + "/v1/")
	request.CustomID = "a\r\nEvil: 1"
	request.Header = http.Header{
		"X-Fusillade-Batch-Id": {"batch_1"},
		"Traceparent":          {"00-1-2-01"},
		"X-Multi":              {"1", "2\n"},
		"Idempotency-Key":      {"theirs"},
		"idempotency-key":      {"theirs"},
		"Content-Type":         {"text/plain"},
		"Authorization":        {"Bearer theirs"},
		"Transfer-Encoding":    {"identity"},
		"Host":                 {"elsewhere"},
	}
	if outcome := client.Do(t.Context(), request); outcome.Reason != "" {
		t.Fatalf("%+v", outcome)
	}
	want := http.Header{
		"Authorization":        {"Bearer key-of-the-user"},
		"Content-Length":       {fmt.Sprint(len(request.Body))},
		"Content-Type":         {"application/json"},
		"Idempotency-Key":      {request.ID.String() + "-2"},
		"Traceparent":          {"00-1-2-01"},
		"User-Agent":           {"fusillade"},
		"X-Fusillade-Attempt":  {"2"},
		"X-Fusillade-Batch-Id": {"batch_1"},
		HeaderCustomID:         {"a  Evil: 1"},
		HeaderRequestID:        {request.ID.String()},
		"X-Multi":              {"1", "2"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if got.URL.Path != "/v1/chat/completions" || got.Method != "POST" || "http://"+got.Host != base {
		t.Errorf("%s %s to %s", got.Method, got.URL, got.Host)
	}
	if diff := cmp.Diff(string(request.Body), string(body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

func TestDoWithoutBodyAndKey(t *testing.T) {
	t.Parallel()
	var got *http.Request
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = io.WriteString(w, okBody)
	})
	client := newClient(t, Config{})

	request := chatRequest(base)
	request.Method, request.Body, request.APIKey = "GET", nil, ""
	if outcome := client.Do(t.Context(), request); outcome.Reason != "" {
		t.Fatalf("%+v", outcome)
	}
	for _, name := range []string{"Authorization", "Content-Type", "Content-Length"} {
		if value, sent := got.Header[name]; sent {
			t.Errorf("%s sent: %q", name, value)
		}
	}

	request.BaseURL = strings.Replace(base, "http://", "http://user:pass@", 1)
	if outcome := client.Do(t.Context(), request); outcome.Reason != "" {
		t.Fatalf("%+v", outcome)
	}
	if user, password, _ := got.BasicAuth(); user != "user" || password != "pass" {
		t.Errorf("basic authorization: %q, %q", user, password)
	}
}

func TestDoShouldRetrySeesResponse(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"model":"m","overloaded":true}`)
	})
	client := newClient(t, Config{ShouldRetry: func(r Response) bool {
		return strings.Contains(string(r.Body), "overloaded") && r.Model == "m" && r.StatusCode == 200
	}})
	if got := client.Do(t.Context(), chatRequest(base)); got.Reason != batch.RetriableHTTPStatus {
		t.Errorf("%+v", got)
	}
}

func TestDoHead(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100") })
	request := chatRequest(base)
	request.Method, request.Body = "HEAD", nil
	if got := newClient(t, Config{}).Do(t.Context(), request); got.Response.StatusCode != http.StatusOK || got.Response.Body != nil {
		t.Errorf("%+v", got)
	}
}

func TestDoReusesConnections(t *testing.T) {
	t.Parallel()
	remotes := make(map[string]bool)
	bodies := []string{"", "known length", strings.Repeat("chunked", 10_000)}
	call := 0
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		remotes[r.RemoteAddr] = true
		_, _ = io.WriteString(w, bodies[call%len(bodies)])
		call++
	})
	client := newClient(t, Config{})
	for range 2 * len(bodies) {
		want := bodies[call%len(bodies)]
		if got := client.Do(t.Context(), chatRequest(base)); string(got.Response.Body) != want {
			t.Fatalf("body of %d bytes, want %d: %s", len(got.Response.Body), len(want), got.Detail)
		}
	}
	if len(remotes) != 1 {
		t.Errorf("%d connections for serial calls", len(remotes))
	}
}

func TestDoHTTP2(t *testing.T) {
	t.Parallel()
	var proto string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto = r.Proto
		_, _ = io.Copy(w, r.Body)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the refused handshake below
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())

	client := newClient(t, Config{TLS: &tls.Config{RootCAs: roots}})
	request := chatRequest(server.URL)
	request.Path = "/echo"
	got := client.Do(t.Context(), request)
	if got.Reason != "" || proto != "HTTP/2.0" || string(got.Response.Body) != string(request.Body) {
		t.Errorf("%s: %+v", proto, got)
	}

	got = newClient(t, Config{}).Do(t.Context(), request)
	if got.Reason != batch.NetworkError || !strings.Contains(got.Detail, "certificate") {
		t.Errorf("unknown authority: %+v", got)
	}
}

func TestDoCancelledBeforehand(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("call was made") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := newClient(t, Config{}).Do(ctx, chatRequest(base)); got.Reason != batch.TaskTerminated {
		t.Errorf("%+v", got)
	}
}

func TestNewNamesBadFields(t *testing.T) {
	t.Parallel()
	_, err := New(Config{
		Timeout: -1, MaxResponseBytes: -1, MaxIdleConnsPerHost: -1, ConnectTimeout: -1, IdleConnTimeout: -1, UserAgent: "\n",
	})
	for _, field := range []string{"Timeout", "MaxResponseBytes", "MaxIdleConnsPerHost", "ConnectTimeout", "IdleConnTimeout", "UserAgent"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("error does not name %s: %v", field, err)
		}
	}
}
