package api_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The batch object has what its requests used, in OpenAI's shape.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}}`)
	}))
	t.Cleanup(server.Close)
	s.WorkAt(server.URL)
	c := s.client("alice")
	id := c.batch(c.file(requests(2, "a") + request("other", "b")))
	want := func(times float64) map[string]any {
		return map[string]any{
			"input_tokens": 10 * times, "input_tokens_details": map[string]any{"cached_tokens": 3 * times},
			"output_tokens": 4 * times, "output_tokens_details": map[string]any{"reasoning_tokens": 2 * times}, "total_tokens": 14 * times,
		}
	}
	all := want(3)
	all["models"] = map[string]any{"a": want(2), "b": want(1)}
	if diff := cmp.Diff(any(all), c.awaitEnd(id).value("usage")); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
}
