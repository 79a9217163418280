package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

func TestDoBuilderErrors(t *testing.T) {
	t.Parallel()
	client := newClient(t, Config{})
	for _, test := range []struct {
		name   string
		change func(*Request)
		detail string
	}{
		{"no method", func(r *Request) { r.Method = "" }, "method is empty"},
		{"bad method", func(r *Request) { r.Method = "PO ST" }, "method is not"},
		{"tunnel", func(r *Request) { r.Method = "CONNECT" }, "method is not"},
		{"no base URL", func(r *Request) { r.BaseURL = "" }, "no scheme"},
		{"no scheme", func(r *Request) { r.BaseURL = "password-of-the-user/v1" }, "no scheme"},
		{"bad scheme", func(r *Request) { r.BaseURL = "ftp://host" }, "neither http nor https"},
		{"no host", func(r *Request) { r.BaseURL = "http:///v1" }, "no host"},
		{"only a port", func(r *Request) { r.BaseURL = "http://:80" }, "no host"},
		{"bad host", func(r *Request) { r.BaseURL = "http://a<b" }, "host is not"},
		{"host with escapes", func(r *Request) { r.BaseURL = "http://a%C3%A9" }, "host is not"},
		{"bad port", func(r *Request) { r.BaseURL = "http://user:password-of-the-user@host:x" }, "do not make a URL"},
		{"large port", func(r *Request) { r.BaseURL = "http://host:65536" }, "port"},
		{"port zero", func(r *Request) { r.BaseURL = "http://host:0" }, "port"},
		{"bad escape", func(r *Request) { r.Path = "/%query-of-the-user" }, "do not make a URL"},
		{"control in path", func(r *Request) { r.Path = "/a\nb" }, "do not make a URL"},
		{"blank in query", func(r *Request) { r.Path = "/a?b c" }, "query"},
		{"bad header name", func(r *Request) { r.Header = http.Header{"a b": {"c"}} }, `header name "a b"`},
		{"empty header name", func(r *Request) { r.Header = http.Header{"": {"c"}} }, `header name ""`},
		{"bad key", func(r *Request) { r.APIKey = "key-of-\nthe-user" }, "API key"},
	} {
		request := chatRequest("http://127.0.0.1:1")
		test.change(&request)
		got := client.Do(t.Context(), request)
		if got.Reason != batch.BuilderError || !strings.Contains(got.Detail, test.detail) {
			t.Errorf("%s: %s: %q, want …%q…", test.name, got.Reason, got.Detail, test.detail)
		}
		checkNoSecret(t, got.Detail)
	}
}

var errDialed = errors.New("dialed")

// Whatever a request holds, it is either refused while it is built, or
// net/http agrees that it can be sent.
func TestBuildMeetsTransport(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errDialed }}
	rapid.Check(t, func(t *rapid.T) {
		base := rapid.OneOf(
			rapid.String(),
			rapid.StringMatching(`https?://[a-zA-Z0-9.:@\[\]%/é<>-]{0,12}(/v1)?/?(\?[ -~]{0,5})?`),
		)
		name := rapid.OneOf(rapid.StringMatching(`[A-Za-z-]{1,10}`), rapid.StringN(0, 5, -1))
		request := Request{
			CustomID: rapid.String().Draw(t, "custom id"),
			Method:   rapid.OneOf(rapid.SampledFrom([]string{"POST", "GET", "get"}), rapid.StringN(0, 5, -1)).Draw(t, "method"),
			BaseURL:  base.Draw(t, "base URL"),
			Path:     rapid.OneOf(rapid.StringMatching(`/[ -~]{0,20}`), rapid.String()).Draw(t, "path"),
			APIKey:   rapid.OneOf(rapid.StringMatching(`[!-~]*`), rapid.String()).Draw(t, "key"),
			Header:   http.Header{name.Draw(t, "name"): {rapid.String().Draw(t, "value")}},
			Body:     []byte(rapid.String().Draw(t, "body")),
		}
		built, _, err := request.build(t.Context(), "agent")
		if err != nil {
			return
		}
		response, err := transport.RoundTrip(built)
		if response != nil {
			_ = response.Body.Close()
		}
		if !errors.Is(err, errDialed) {
			t.Fatalf("the transport refuses %s %s: %v", built.Method, built.URL, err)
		}
	})
}

func TestJoinURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ base, path, want string }{
		{"http://h", "/v1/chat", "http://h/v1/chat"},
		{"http://h/", "/v1/chat", "http://h/v1/chat"},
		{"http://h/v1", "/v1/chat", "http://h/v1/chat"},
		{"http://h/v1/", "/v1/chat", "http://h/v1/chat"},
		{"http://h/v1", "/v1", "http://h/v1"},
		{"http://h/v1", "/v10/chat", "http://h/v1/v10/chat"},
		{"http://h/v1", "/chat", "http://h/v1/chat"},
		{"http://h/openai/v1", "/v1/chat", "http://h/openai/v1/chat"},
		{"http://h/av1", "/v1/chat", "http://h/av1/chat"},
		{"https://h/v1beta/openai", "/v1/chat/completions", "https://h/v1beta/openai/chat/completions"},
		{"https://h/api/v3/", "/v1/embeddings", "https://h/api/v3/embeddings"},
		{"https://h/openai/deployments/d?api-version=1", "/v1/chat/completions", "https://h/openai/deployments/d/chat/completions?api-version=1"},
		{"http://h/v1/chat/completions", "/v1/chat/completions", "http://h/v1/chat/completions"},
		{"http://h/v1/chat/completions/", "/v1/embeddings", "http://h/v1/embeddings"},
		{"http://h/v1/completions", "/v1/chat/completions", "http://h/v1/chat/completions"},
		{"https://h/chat/completions", "/v1/chat/completions", "https://h/chat/completions"},
		{"http://h", "/v1", "http://h/v1"},
		{"http://h/v1", "/score", "http://h/v1/score"},
		{"http://h/v1", "/pooling", "http://h/pooling"},
		{"http://h/v1/", "/v2/rerank?a=b", "http://h/v2/rerank?a=b"},
		{"http://h/v1/chat/completions", "/classify", "http://h/classify"},
		{"http://h/api/v3", "/pooling", "http://h/api/v3/pooling"},
		{"http://h", "/v2/rerank", "http://h/v2/rerank"},
		{"http://h", "chat", "http://h/chat"},
		{"http://h", "@evil/chat", "http://h/@evil/chat"},
		{"http://h", "//evil/chat", "http://h//evil/chat"},
		{"http://h/v1?a=1", "/v1/chat?b=2", "http://h/v1/chat?a=1&b=2"},
		{"http://h#f", "/chat#g", "http://h/chat"},
		{"http://h/v1", "", "http://h/v1"},
	} {
		got, err := joinURL(test.base, test.path)
		if err != nil || got != test.want {
			t.Errorf("joinURL(%q, %q) = %q, %v; want %q", test.base, test.path, got, err, test.want)
		}
	}
}

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	first, second := chatRequest("http://a"), chatRequest("http://b")
	if first.IdempotencyKey() != second.IdempotencyKey() {
		t.Error("the same attempt has two keys")
	}
	second.Attempt++
	again := first
	again.Generation = 1
	if again.IdempotencyKey() == first.IdempotencyKey() {
		t.Error("a rerun has the key of the first life")
	}
	if first.IdempotencyKey() == second.IdempotencyKey() {
		t.Error("two attempts share a key")
	}
}
