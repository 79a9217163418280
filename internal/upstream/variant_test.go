package upstream

import (
	"io"
	"net/http"
	"testing"

	"fusillade/internal/batch"
)

// The same things in other spellings: what gateways, balancers and engines write
// beside what their documentation shows.
func TestVariants(t *testing.T) {
	t.Parallel()
	const chat, json = "/v1/chat/completions", "application/json"
	for _, test := range []struct {
		path, contentType string
		status            int
		body              string
		want              batch.Reason
	}{
		{chat, "application/json; charset=utf-8", 200, okBody, ""},
		{chat, "Application/JSON;charset=UTF-8", 200, okBody, ""},
		{chat, "application/problem+json", 200, okBody, ""},
		{chat, "text/html; charset=utf-8", 200, okBody, ""},
		{chat, "application/json, application/json", 200, okBody, ""},
		{chat, "", 200, okBody, ""},
		{chat, ";;;", 200, okBody, ""},
		{chat, "TEXT/EVENT-STREAM", 200, okBody, ""},
		{chat, "Text/Event-Stream; charset=utf-8", 200, "data: {}\n\n", batch.UnexpectedStream},
		{chat, json, 203, okBody, ""},
		{chat, json, 208, okBody, ""},
		{chat, json, 200, `{"choices":[{"message":{"role":"assistant","content":"x"},"finish_reason":"content_filter"}],"usage":null}`, ""},
		{chat, json, 200, `{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":"content_filter"}]}`, ""},
		{chat, json, 200, `{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}`, ""},
		{chat, json, 200, `{"choices":[{"message":{"content":"x"},"finish_reason":null}],"error":""}`, ""},
		{chat, json, 200, `{"choices":[{"message":{"content":"x"}}],"error":{"code":0,"message":""}}`, ""},
		{chat, json, 200, `{"choices":[{"message":{"content":[{"type":"text","text":"x"}]}}],"usage":{}}`, ""},
		{chat, json, 200, `{"choices":[{"message":{"content":"error: 429"}}]}`, ""},
		{chat, json, 200, `{"usage":{"prompt_tokens":1e400},"choices":[{"message":{"content":"x"}}]}`, ""},
		{chat, json, 200, `{"choices":[{"error":{"code":429,"message":"slow"},"message":{"content":""}}]}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"choices":[{"error":{"code":503},"message":{"content":"part"},"finish_reason":"error"}]}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"choices":[{"message":{"content":"x"}},{"message":null}]}`, batch.MalformedAnswer},
		{chat, json, 200, `{"error":{}}`, batch.MalformedAnswer},
		{chat, json, 200, `{"error":""}`, batch.MalformedAnswer},
		{chat, json, 200, `{"error":[]}`, batch.MalformedAnswer},
		{chat, json, 200, `{"error":{"message":"","type":null,"code":null}}`, batch.MalformedAnswer},
		{chat, json, 200, `{"detail":[{"loc":["body"],"msg":"field required","type":"value_error.missing"}]}`, batch.MalformedAnswer},
		{chat, json, 200, `{"message":"Service Unavailable"}`, batch.MalformedAnswer},
		{chat, json, 200, `{"type":"error","error":{"type":"invalid_request_error","message":"no"}}`, batch.NonRetriableErrorBody},
		{chat, json, 200, `{"type":"error","error":{"type":"rate_limit_error","message":"no"}}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"type":"error","error":{"type":"billing_error"}}`, batch.QuotaExhausted},
		{chat, json, 200, `{"error":{"code":"DeploymentNotFound","message":"x"}}`, batch.ModelNotFound},
		{chat, json, 200, `{"error":{"status":"UNAVAILABLE","code":503}}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"error":{"status":"PERMISSION_DENIED","code":403}}`, batch.NonRetriableErrorBody},
		{chat, json, 200, `{"error":{"type":"Timeout","message":"x"}}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"error":["a","b"]}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"error":500}`, batch.RetriableErrorBody},
		{chat, json, 200, `{"error":"400"}`, batch.NonRetriableErrorBody},
		{chat, json, 200, `{"statusCode":401,"message":"x"}`, batch.NonRetriableErrorBody},
		{chat, json, 200, `true`, batch.MalformedAnswer},
		{chat, json, 200, " \t\r\n ", batch.NoAnswer},
		{chat, json, 200, "\x00", batch.MalformedAnswer},
		{chat, json, 200, "<?xml version=\"1.0\"?><Error/>", batch.MalformedAnswer},
		{chat, json, 200, "upstream connect error or disconnect/reset before headers", batch.MalformedAnswer},
		{chat, json, 200, "no healthy upstream", batch.MalformedAnswer},
		{chat, json, 200, "callback(" + okBody + ")", batch.MalformedAnswer},
		{chat, json, 200, "retry: 100\n\ndata: {}\n\n", batch.UnexpectedStream},
		{chat, json, 200, "id: 1\r\ndata: {}\r\n\r\n", batch.UnexpectedStream},
		{chat, json, 200, okBody + "\r\n" + okBody, batch.UnexpectedStream},
		{"/v1/completions", json, 200, `{"choices":[{"text":"x","finish_reason":"content_filter"}]}`, ""},
		{"/v1/completions", json, 200, `{"choices":[{"message":{"content":"of the other path"}}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"object":"list","data":[{"object":"embedding","embedding":"AACAPwAAAEA=","index":0}],"usage":null}`, ""},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":[0.1]},{"embedding":[]}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[{"index":0}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":{"embedding":[0.1]}}`, batch.MalformedAnswer},
		{"/v1/rerank", json, 200, `{"results":[{"index":0,"relevance_score":0.0}],"meta":{"billed_units":{}}}`, ""},
		{"/v1/rerank", json, 200, `{"data":[{"index":0,"relevance_score":0.7}]}`, ""},
		{"/v1/rerank", json, 200, `{"results":null}`, batch.MalformedAnswer},
		{"/v1/responses", json, 200, `{"status":"completed","output":[],"error":{}}`, ""},
		{"/v1/responses", json, 200, `{"status":"expired","output":[]}`, batch.ResponseFailed},
		{"/v1/audio/transcriptions", json, 200, `{"text":"spoken words"}`, ""},
		{"/v1/audio/transcriptions", "text/plain", 200, "spoken words", batch.MalformedAnswer},

		{chat, json, 402, `{}`, batch.NonRetriableHTTPStatus},
		{chat, json, 405, `{}`, batch.NonRetriableHTTPStatus},
		{chat, json, 408, ``, batch.RetriableHTTPStatus},
		{chat, "text/html", 413, `<html>Request Entity Too Large</html>`, batch.NonRetriableHTTPStatus},
		{chat, "text/html", 414, `<html>`, batch.NonRetriableHTTPStatus},
		{chat, json, 415, `{}`, batch.NonRetriableHTTPStatus},
		{chat, json, 421, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 422, `{"detail":[]}`, batch.NonRetriableHTTPStatus},
		{chat, json, 423, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 424, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 425, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 431, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 451, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 498, `{}`, batch.NonRetriableHTTPStatus},
		{chat, json, 499, ``, batch.NonRetriableHTTPStatus},
		{chat, json, 501, `{"error":{"type":"not_supported_error"}}`, batch.NotImplemented},
		{chat, json, 507, ``, batch.RetriableHTTPStatus},
		{chat, json, 508, ``, batch.RetriableHTTPStatus},
		{chat, "text/html", 511, `<html>Please log in`, batch.RetriableHTTPStatus},
		{chat, "text/html", 520, `<html>`, batch.RetriableHTTPStatus},
		{chat, "text/html", 522, `<html>`, batch.RetriableHTTPStatus},
		{chat, "text/html", 524, `<html>`, batch.RetriableHTTPStatus},
		{chat, "text/html", 530, `<html>error code: 1016`, batch.RetriableHTTPStatus},
		{chat, json, 598, ``, batch.RetriableHTTPStatus},
		{chat, json, 999, ``, batch.NonRetriableHTTPStatus},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			if test.contentType != "" {
				w.Header().Set("Content-Type", test.contentType)
			}
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		request := chatRequest(base)
		request.Path = test.path
		if got := newClient(t, Config{}).Do(t.Context(), request); got.Reason != test.want {
			t.Errorf("%s, %d, %q, %s: %q (%s), want %q", test.path, test.status, test.contentType, test.body, got.Reason, got.Detail, test.want)
		}
	}
}
