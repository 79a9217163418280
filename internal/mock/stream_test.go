package mock_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/upstream"
)

// What is streamed is what is answered otherwise.
func TestStreams(t *testing.T) {
	t.Parallel()
	served, err := mock.Listen(t.Context(), "127.0.0.1:0", mock.Config{Settings: mock.Settings{TokenLatency: "1ms"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = served.Stop() })
	client, err := upstream.New(upstream.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	const tools = `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}}}],"tool_choice":"required"`
	for name, test := range map[string]struct{ path, body string }{
		"chat":                   {"/v1/chat/completions", `{"model":"m","messages":[]}`},
		"choices and logprobs":   {"/v1/chat/completions", `{"model":"m","n":3,"logprobs":true,"top_logprobs":2}`},
		"cut":                    {"/v1/chat/completions", `{"model":"m","max_tokens":3}`},
		"a tool":                 {"/v1/chat/completions", `{"model":"m",` + tools + `}`},
		"JSON":                   {"/v1/chat/completions", `{"model":"m","response_format":{"type":"json_object"}}`},
		"completions":            {"/v1/completions", `{"model":"m","prompt":"x","n":2,"logprobs":3}`},
		"responses":              {"/v1/responses", `{"model":"m","input":"x"}`},
		"a tool of responses":    {"/v1/responses", `{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":"required"}`},
		"what is never streamed": {"/v1/embeddings", `{"model":"m","input":"x"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			do := func(stream endpoint.Switch) (body map[string]any, first time.Duration) {
				got := client.Do(t.Context(), upstream.Request{
					Method: http.MethodPost, BaseURL: served.URL, Path: test.path, CustomID: name, Body: []byte(test.body),
					Options: &endpoint.Options{Stream: stream},
				})
				if got.Reason != "" || got.Response.Usage.PromptTokens == 0 {
					t.Fatalf("%q (%s), usage %+v", got.Reason, got.Detail, got.Response.Usage)
				}
				if err := json.Unmarshal(got.Response.Body, &body); err != nil {
					t.Fatal(err)
				}
				return body, got.FirstToken
			}
			plain, _ := do(endpoint.Off)
			streamed, first := do(endpoint.On)
			if usage, ok := plain["usage"].(map[string]any); ok { // the body is longer by what asks for the stream
				delete(usage, "prompt_tokens")
				delete(usage, "input_tokens")
				delete(usage, "total_tokens")
				for _, name := range []string{"prompt_tokens", "input_tokens", "total_tokens"} {
					delete(streamed["usage"].(map[string]any), name)
				}
			}
			if diff := cmp.Diff(plain, streamed); diff != "" {
				t.Errorf("(-plain +streamed):\n%s", diff)
			}
			if isStream := test.path != "/v1/embeddings"; first > 0 != isStream {
				t.Errorf("first token after %v", first)
			}
		})
	}
}

// A stream that stalls ends when its client goes away.
func TestStreamStalls(t *testing.T) {
	t.Parallel()
	handler, err := mock.New(mock.Config{Settings: mock.Settings{TokenLatency: "hang"}})
	if err != nil {
		t.Fatal(err)
	}
	served := httptest.NewServer(handler)
	t.Cleanup(served.Close)
	client, err := upstream.New(upstream.Config{Timeout: time.Minute, StallTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	got := client.Do(t.Context(), upstream.Request{
		Method: http.MethodPost, BaseURL: served.URL, Path: "/v1/chat/completions", Body: []byte(`{"model":"m","stream":true}`),
	})
	if got.Reason != batch.Timeout || got.FirstToken == 0 {
		t.Errorf("%q (%s), first token after %v", got.Reason, got.Detail, got.FirstToken)
	}
	testenv.Eventually(t, "the mock notices", func() bool { return handler.Stats().InFlight == 0 && handler.Stats().Aborted == 1 })
}
