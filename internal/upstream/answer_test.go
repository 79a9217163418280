package upstream

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"fusillade/internal/batch"
)

// A success status makes no answer: the body does.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const json, stream = "application/json", "text/event-stream"
	for _, test := range []struct {
		path, contentType string
		status            int
		body              string
		want              batch.Reason
	}{
		{"/v1/chat/completions", json, 200, okBody, ""},
		{"/v1/chat/completions", "text/plain", 200, okBody, ""},
		{"/v1/chat/completions", stream, 200, okBody, ""},
		{"/v1/chat/completions", json, 201, "\n " + okBody + "\r\n", ""},
		{"/v1/chat/completions", json, 200, `{"error":null,"choices":[{"message":{"content":null,"tool_calls":[{}]},"finish_reason":"tool_calls"}]}`, ""},
		{"/v1/chat/completions", json, 200, `{"error":{},"choices":[{"message":{"content":"\ud800"},"finish_reason":"length"}]}`, ""},
		{"/v1/chat/completions", json, 200, "{\"choices\":[{\"message\":{\"content\":\"\xff\"}}]}", ""},
		{"/v1/chat/completions", json, 200, `{"choices":[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}`, ""},
		{"/v1/chat/completions", json, 200, `{"choices":[{"index":0,"message":{"content":""},"finish_reason":"stop"}]}`, ""},
		{"/v1/chat/completions", json, 200, `{"choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":"no"},"finish_reason":"stop"}]}`, ""},
		{"/v1/chat/completions", json, 200, `{"choices":[{"index":0,"message":{"role":"assistant","content":null},"finish_reason":"length"}]}`, ""},
		{"/v1/completions", json, 200, `{"choices":[{"text":""}]}`, ""},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":[0.1]},{"embedding":"AAAA"}]}`, ""},
		{"/v1/responses", json, 200, `{"status":"completed","output":[{"type":"message"}],"error":null}`, ""},
		{"/v1/rerank", json, 200, `{"results":[{"index":0}]}`, ""},
		{"/v1/messages", json, 200, `{"type":"message","content":[{"type":"text","text":"hi"}]}`, ""},
		{"/v1/messages", json, 200, `{"type":"message","content":[],"stop_reason":"end_turn"}`, ""},
		{"/v1/messages", json, 200, `{"type":"message","content":[{"text":"hi"}]}`, batch.MalformedAnswer},
		{"/v1/messages", json, 200, `{"type":"message","content":"hi"}`, batch.MalformedAnswer},
		{"/v1/moderations", json, 200, `{"id":"m","results":[{"flagged":false,"categories":{}}]}`, ""},
		{"/v1/moderations", json, 200, `{"id":"m","results":[]}`, batch.MalformedAnswer},
		{"/v1/moderations", json, 200, `{"id":"m","results":[{}]}`, batch.MalformedAnswer},
		{"/v1/images/generations", json, 200, `{"created":1,"data":[{"b64_json":"aGk="}]}`, ""},
		{"/v1/images/edits", json, 200, `{"created":1,"data":[{"url":"https://x/y.png"}]}`, ""},
		{"/v1/images/generations", json, 200, `{"created":1,"data":[]}`, batch.MalformedAnswer},
		{"/v1/images/edits", json, 200, `{"created":1,"data":[{"revised_prompt":"x"}]}`, batch.MalformedAnswer},
		{"/v1/images/edits", json, 200, `{"created":1}`, batch.MalformedAnswer},
		{"/rerank", json, 200, `{"id":"r","results":[{"index":0,"document":{"text":"a"},"relevance_score":0.5}]}`, ""},
		{"/v1/rerank", json, 200, `[{"score":0.9,"document":"a","index":1}]`, ""}, // SGLang
		{"/v2/rerank", json, 200, `{"results":[]}`, batch.MalformedAnswer},
		{"/v2/rerank", json, 200, `[]`, batch.MalformedAnswer},
		{"/v2/rerank", json, 200, `["a"]`, batch.MalformedAnswer},
		{"/rerank", json, 200, `{"results":[{"document":{"text":"a"}}]}`, batch.MalformedAnswer},
		{"/rerank", json, 200, `[{"error":{"code":429}}]`, batch.RetriableErrorBody},
		{"/score", json, 200, `{"object":"list","data":[{"index":0,"object":"score","score":1}]}`, ""},
		{"/v1/score", json, 200, `{"scores":[[0.1,0.9]],"object":"scoring"}`, ""}, // SGLang
		{"/v1/score", json, 200, `{"data":[{"index":0,"score":null}]}`, batch.MalformedAnswer},
		{"/v1/score", json, 200, `[{"score":1}]`, batch.MalformedAnswer},
		{"/classify", json, 200, `{"data":[{"index":0,"label":"Default","probs":[0.5,0.5],"num_classes":2}]}`, ""},
		{"/classify", json, 200, `{"embedding":[0.5],"meta_info":{}}`, ""}, // SGLang
		{"/classify", json, 200, `{"data":[{"index":0}]}`, batch.MalformedAnswer},
		{"/pooling", json, 200, `{"object":"list","data":[{"index":0,"object":"pooling","data":[0.5]}]}`, ""},
		{"/pooling", json, 200, `{"object":"list","data":[{"index":0,"object":"pooling","data":null}]}`, batch.MalformedAnswer},
		{"/v1/audio/speech", "audio/mpeg", 200, "ID3\x04\x00audio", batch.BinaryAnswer},
		{"/pooling", "application/octet-stream", 200, "\x00\x01\x02", batch.BinaryAnswer},
		{"/v1/audio/speech", "audio/wav", 500, "boom", batch.RetriableHTTPStatus},
		{"/v1/chat/completions", "application/octet-stream", 200, okBody, ""},
		{"/anything", json, 200, `{"x":1}`, ""},
		{"/v1/chat/completions", json, 208, okBody, ""},
		{"/v1/chat/completions", json, 226, okBody, ""},
		{"/v1/chat/completions", "text/html", 200, okBody, ""},
		{"/v1/chat/completions", json, 200, `{"error":"",` + okBody[1:], ""},
		{"/v1/chat/completions", json, 200, `{"error":0,` + okBody[1:], ""},
		{"/v1/chat/completions", json, 200, `{"error":{"code":null,"message":""},` + okBody[1:], ""},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":{"refusal":"no"}}]}`, ""},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":{"role":"assistant","content":null}}]}`, ""},
		{"/v1/chat/completions", json, 200, `{"n":1e400,"deep":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `,` + okBody[1:], ""},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":[[0.1],[0.2]]}]}`, ""},

		{"/v1/chat/completions", json, 200, ``, batch.NoAnswer},
		{"/v1/chat/completions", json, 200, " \n", batch.NoAnswer},
		{"/v1/chat/completions", json, 202, okBody, batch.NoAnswer},
		{"/v1/chat/completions", json, 204, ``, batch.NoAnswer},
		{"/v1/chat/completions", json, 205, ``, batch.NoAnswer},
		{"/v1/chat/completions", json, 206, okBody, batch.NoAnswer},
		{"/v1/chat/completions", json, 304, ``, batch.NoAnswer},
		{"/v1/chat/completions", json, 300, okBody, batch.NoAnswer},

		{"/v1/chat/completions", "text/html", 200, `<!DOCTYPE html><html>Please log in</html>`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `<html></html>`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `OK`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `"hello"`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `[]`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `null`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `42`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, "\xef\xbb\xbf" + okBody, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, okBody + "\n\ndata: [DONE]\n\n", batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":null}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":{}}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[null]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":null}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"finish_reason":"stop"}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{'choices':[]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":[NaN]}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":null}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, okBody, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"detail":"Not Found"}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"message":"Too many requests"}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"success":false,"errors":[{"message":"no"}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":{}}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":"text"}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":[]}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"text":"of the other path"}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, `{"choices":[{"delta":{"content":"a chunk"}}]}`, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, okBody + "garbage", batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, okBody + "\x00", batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, ")]}',\n" + okBody, batch.MalformedAnswer},
		{"/v1/chat/completions", json, 200, "\xff\xfe{\x00\"\x00", batch.MalformedAnswer},
		{"/v1/completions", json, 200, `{"choices":[{"text":null}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":[]}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":[null,null]}]}`, batch.MalformedAnswer},
		{"/v1/embeddings", json, 200, `{"data":[{"embedding":""}]}`, batch.MalformedAnswer},
		{"/v1/responses", json, 200, `{"status":"completed","output":null}`, batch.MalformedAnswer},

		{"/v1/chat/completions", json, 200, okBody[:20], batch.NetworkError},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":{"content":"half`, batch.NetworkError},

		{"/v1/chat/completions", stream, 200, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n", batch.UnexpectedStream},
		{"/v1/chat/completions", json, 200, "data: {}\n\n", batch.UnexpectedStream},
		{"/v1/chat/completions", json, 200, ": ping\n\ndata: {}\n\n", batch.UnexpectedStream},
		{"/v1/messages", stream, 200, "event: message_start\ndata: {}\n\n", batch.UnexpectedStream},
		{"/v1/chat/completions", "application/x-ndjson", 200, "{\"a\":1}\n{\"a\":2}\n", batch.UnexpectedStream},

		{"/v1/chat/completions", json, 200, `{"error":{"code":429,"message":"slow down"}}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"code":"502","message":"bad gateway"}}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"code":400,"message":"bad"}}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":"model is overloaded"}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"type":"invalid_request_error","code":null}}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"type":"invalid_request_error","code":"rate_limit_exceeded"}}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"message":"?"}}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"object":"error","message":"bad","type":"BadRequestError","code":400}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"object":"error","message":"boom","type":"InternalServerError"}`, batch.RetriableErrorBody},
		{"/v1/messages", json, 200, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":{"content":"ha"},"finish_reason":"error"}]}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"choices":[{"message":{"content":""},"error":{"code":400}}]}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"code":"insufficient_quota"}}`, batch.QuotaExhausted},
		{"/v1/chat/completions", json, 200, `{"error":{"code":"model_not_found","type":"invalid_request_error"}}`, batch.ModelNotFound},

		{"/v1/chat/completions", json, 200, `{"code":429,"message":"slow down"}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"status":503,"title":"unavailable"}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"statusCode":400,"error":"Bad Request","message":"?"}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":"invalid_request","error_description":"?"}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":true}`, batch.RetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"err\u006fr":{"code":400}}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `{"error":{"error":{"code":400}}}`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `[{"error":{"code":400,"status":"INVALID_ARGUMENT"}}]`, batch.NonRetriableErrorBody},
		{"/v1/chat/completions", json, 200, `[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]`, batch.RetriableErrorBody},

		{"/v1/responses", json, 200, `{"status":"incomplete","output":[{}],"incomplete_details":{"reason":"max_output_tokens"}}`, batch.ResponseIncomplete},
		{"/v1/responses", json, 200, `{"status":"queued","output":[]}`, batch.ResponseUnfinished},
		{"/v1/responses", json, 200, `{"status":"in_progress","output":[]}`, batch.ResponseUnfinished},
		{"/v1/responses", json, 200, `{"status":"cancelled","output":[]}`, batch.ResponseFailed},
		{"/v1/responses", json, 200, `{"status":"failed","error":{"code":"invalid_prompt","message":"no"},"output":[]}`, batch.ResponseFailed},
		{"/v1/responses", json, 200, `{"status":"failed","error":{"code":"server_error","message":"no"},"output":[]}`, batch.RetriableErrorBody},

		{"/v1/chat/completions", json, 429, `{"error":{"code":"insufficient_quota"}}`, batch.QuotaExhausted},
		{"/v1/chat/completions", json, 429, `{"error":{"type":"billing_hard_limit_reached","code":null}}`, batch.QuotaExhausted},
		{"/v1/chat/completions", json, 429, `{"error":{"code":"rate_limit_exceeded"}}`, batch.RetriableHTTPStatus},
		{"/v1/chat/completions", json, 404, `{"error":{"code":"model_not_found"}}`, batch.ModelNotFound},
		{"/v1/chat/completions", json, 404, `<html>`, batch.NotFound},
		{"/v1/chat/completions", json, 400, `{"error":{"code":"bad"}}`, batch.NonRetriableHTTPStatus},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.contentType)
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		request := chatRequest(base)
		request.Path = test.path
		got := newClient(t, Config{}).Do(t.Context(), request)
		if got.Reason != test.want {
			t.Errorf("%s, %d, %s: %q (%s), want %q", test.path, test.status, test.body, got.Reason, got.Detail, test.want)
		}
		if kept := string(got.Response.Body); got.Reason != batch.NetworkError && kept != test.body && test.status != 304 && test.status != 204 && test.status != 205 {
			t.Errorf("%s: the body is kept as %q", test.body, kept)
		}
	}
}

// HTTP as it is written by servers and proxies of every kind.
func TestFramings(t *testing.T) {
	t.Parallel()
	length := fmt.Sprintf("Content-Length: %d\r\n", len(okBody))
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(okBody), okBody)
	const ok, chunked = "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	for _, test := range []struct {
		answer string
		want   batch.Reason
	}{
		{ok + "\r\n" + okBody, ""},
		{ok + "Connection: close\r\n\r\n" + okBody, ""},
		{"HTTP/1.1 200\r\n" + length + "\r\n" + okBody, ""},
		{"HTTP/1.1 200 OK\n" + strings.TrimSuffix(length, "\r\n") + "\n\n" + okBody, ""},
		{ok + length + length + "\r\n" + okBody, ""},
		{ok + "X: " + strings.Repeat("x", 200_000) + "\r\n" + length + "\r\n" + okBody, ""},
		{ok + "Content-Encoding: \r\n" + length + "\r\n" + okBody, ""},
		{ok + "Content-Encoding: utf-8\r\n" + length + "\r\n" + okBody, ""},
		{"HTTP/1.1 100 Continue\r\n\r\n" + ok + length + "\r\n" + okBody, ""},
		{"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + length + "\r\n" + okBody, ""},
		{strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50) + ok + length + "\r\n" + okBody, ""},
		{chunked + "Trailer: X\r\n\r\n" + chunk + "0\r\nX: y\r\n\r\n", ""},
		{chunked + "\r\n" + strings.Replace(chunk, "\r\n", ";name=value\r\n", 1) + "0\r\n\r\n", ""},
		{chunked + "Content-Length: 3\r\n\r\n" + chunk + "0\r\n\r\n", ""},

		{okBody, batch.NetworkError}, // HTTP/0.9
		{"ICY 200 OK\r\n" + length + "\r\n" + okBody, batch.NetworkError},
		{ok + "Content-Length: -1\r\n\r\n" + okBody, batch.NetworkError},
		{ok + "Content-Length: x\r\n\r\n" + okBody, batch.NetworkError},
		{ok + length + "Content-Length: 3\r\n\r\n" + okBody, batch.NetworkError},
		{ok + "X: \x00\r\n" + length + "\r\n" + okBody, batch.NetworkError},
		{chunked + "\r\n" + chunk, batch.NetworkError},
		{chunked + "\r\n" + chunk + "0\r\n", batch.NetworkError},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + chunk + "0\r\n\r\n", batch.NetworkError},
		{ok + "Content-Length: 0\r\n\r\n", batch.NoAnswer},
		{"HTTP/1.1 000 ?\r\n" + length + "\r\n" + okBody, batch.NoAnswer},
		{"HTTP/1.1 999 ?\r\n" + length + "\r\n" + okBody, batch.NonRetriableHTTPStatus},
		{ok + "Content-Length: 5000000000\r\n\r\n" + okBody, batch.NonRetriableHTTPStatus},
	} {
		got := newClient(t, Config{}).Do(t.Context(), chatRequest(answerRaw(t, test.answer)))
		if got.Reason != test.want {
			t.Errorf("%.100q: %q (%s), want %q", test.answer, got.Reason, got.Detail, test.want)
		}
		checkNoSecret(t, got.Detail)
	}
}

// A body that ends too early is no answer, whatever tells where it should end.
func TestBodiesThatBreakOff(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"HTTP/1.0":            "HTTP/1.0 200 OK\r\n\r\n" + okBody[:30],
		"length":              "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + okBody,
		"length too short":    "HTTP/1.1 200 OK\r\nContent-Length: 30\r\nConnection: close\r\n\r\n" + okBody,
		"chunks":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + okBody[:16] + "\r\n",
		"a bad chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + okBody,
		"no last chunk":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(okBody), okBody),
		"gzip that breaks":    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzipped(okBody)[:30],
		"gzip without a head": "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzipped(okBody)[:3],
	} {
		got := newClient(t, Config{}).Do(t.Context(), chatRequest(answerRaw(t, answer)))
		if got.Reason != batch.NetworkError || got.Response.StatusCode != 0 {
			t.Errorf("%s: %q, status %d: %s", name, got.Reason, got.Response.StatusCode, got.Detail)
		}
	}
	got := newClient(t, Config{}).Do(t.Context(), chatRequest(answerRaw(t, "HTTP/1.0 200 OK\r\n\r\n"+okBody)))
	if got.Reason != "" {
		t.Errorf("HTTP/1.0 with a whole body: %s: %s", got.Reason, got.Detail)
	}
	got = newClient(t, Config{}).Do(t.Context(), chatRequest(answerRaw(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")))
	if got.Reason != batch.NoAnswer {
		t.Errorf("status 101: %s: %s", got.Reason, got.Detail)
	}
}

// Without a length the end of the connection is that of the body, whether or not TLS
// says goodbye before it.
func TestTLSEndsWithoutGoodbye(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	for _, test := range []struct {
		header, body string
		want         batch.Reason
	}{
		{"", okBody, ""},
		{"", okBody[:20], batch.NetworkError},
		{"Content-Encoding: gzip\r\n", gzipped(okBody), ""},
		{"Content-Encoding: gzip\r\n", gzipped(okBody)[:30], batch.NetworkError},
		{"Content-Length: 100\r\n", okBody, batch.NetworkError},
		{"Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(okBody), okBody), batch.NetworkError},
	} {
		base := newRawServer(t, func(raw *net.TCPConn, _ *bufio.Reader) {
			conn := tls.Server(raw, &tls.Config{Certificates: secure.TLS.Certificates})
			if _, err := readRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n"+test.header+"\r\n"+test.body)
			}
		})
		client := newClient(t, Config{TLS: &tls.Config{RootCAs: roots}, NoHTTP2: true})
		if got := client.Do(t.Context(), chatRequest(strings.Replace(base, "http://", "https://", 1))); got.Reason != test.want {
			t.Errorf("%q, %.30q: %q (%s), want %q", test.header, test.body, got.Reason, got.Detail, test.want)
		}
	}
}

func compressed(body string, writer func(io.Writer) io.WriteCloser) string {
	var b bytes.Buffer
	w := writer(&b)
	_, _ = io.WriteString(w, body)
	_ = w.Close()
	return b.String()
}

func gzipped(body string) string {
	return compressed(body, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

func zstandard(body string) string {
	return compressed(body, func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w)
		if err != nil {
			panic(err)
		}
		return z
	})
}

func brotlied(body string) string {
	return compressed(body, func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) })
}

// wrongSum changes the checksum of a gzip member.
func wrongSum(member string) string {
	b := []byte(member)
	b[len(b)-8] ^= 1
	return string(b)
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	raw := compressed(okBody, func(w io.Writer) io.WriteCloser {
		f, err := flate.NewWriter(w, 5)
		if err != nil {
			panic(err)
		}
		return f
	})
	zlibbed := compressed(okBody, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
	const limit = 1 << 20
	bomb := strings.Repeat(" ", 2*limit)
	for _, test := range []struct {
		encoding, body string
		status         int
		want           batch.Reason
		kept           string
	}{
		{"", okBody, 200, "", okBody},
		{"identity", okBody, 200, "", okBody},
		{"gzip", gzipped(okBody), 200, "", okBody},
		{"x-gzip", gzipped(okBody), 200, "", okBody},
		{"GZIP", gzipped(okBody), 200, "", okBody},
		{"deflate", zlibbed, 200, "", okBody},
		{"deflate", raw, 200, "", okBody},
		{"br", brotlied(okBody), 200, "", okBody},
		{"zstd", zstandard(okBody), 200, "", okBody},
		{"br, gzip", gzipped(brotlied(okBody)), 200, "", okBody},
		{"gzip", gzipped(`{"error":{"message":"bad"}}`), 400, batch.NonRetriableHTTPStatus, `{"error":{"message":"bad"}}`},
		{"gzip", gzipped(`{"error":{"code":"insufficient_quota"}}`), 429, batch.QuotaExhausted, `{"error":{"code":"insufficient_quota"}}`},
		{"rot13", okBody, 200, batch.UnknownEncoding, ""},
		{"rot13", okBody, 400, batch.NonRetriableHTTPStatus, ""},
		{"gzip, gzip, gzip, gzip", okBody, 200, batch.UnknownEncoding, ""},
		{"gzip", okBody, 200, "", okBody}, // undone on the way
		{"gzip", "\n  " + okBody, 200, "", "\n  " + okBody},
		{"zstd", okBody, 200, "", okBody},
		{"br", okBody, 200, "", okBody},
		{"deflate", okBody, 200, "", okBody},
		{"gzip", "<html>", 502, batch.RetriableHTTPStatus, "<html>"},
		{"gzip", "neither gzip nor JSON", 200, batch.MalformedAnswer, ""},
		{"gzip", gzipped(okBody[:20]) + gzipped(okBody[20:]), 200, "", okBody},
		{"gzip", gzipped(okBody) + strings.Repeat("\x00", 20), 200, "", okBody},
		{"gzip", gzipped(okBody) + "what a proxy adds", 200, "", okBody},
		{"gzip", gzipped(okBody[:20]) + gzipped(okBody[20:])[:15], 200, batch.NetworkError, ""},
		{"gzip", gzipped(""), 200, batch.NoAnswer, ""},
		{"gzip", "", 200, batch.NoAnswer, ""},
		{"deflate", gzipped(okBody), 200, "", okBody},
		{"gzip, identity", gzipped(okBody), 200, "", okBody},
		{"gzip", wrongSum(gzipped(okBody)), 200, batch.MalformedAnswer, ""},
		{"gzip", gzipped(okBody)[:40], 200, batch.NetworkError, ""},
		{"br", brotlied(okBody)[:20], 200, batch.NetworkError, ""},
		{"zstd", zstandard(okBody)[:20], 200, batch.NetworkError, ""},
		{"deflate", zlibbed[:20], 200, batch.NetworkError, ""},
		{"gzip", gzipped(bomb), 200, batch.NonRetriableHTTPStatus, ""},
		{"zstd", zstandard(bomb), 200, batch.NonRetriableHTTPStatus, ""},
		{"br", brotlied(bomb), 200, batch.NonRetriableHTTPStatus, ""},
		{"gzip, gzip", gzipped(gzipped(bomb)), 200, batch.NonRetriableHTTPStatus, ""},
	} {
		base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", test.encoding)
			w.Header().Set("Content-Length", strconv.Itoa(len(test.body)))
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, test.body)
		})
		got := newClient(t, Config{MaxResponseBytes: limit}).Do(t.Context(), chatRequest(base))
		if got.Reason != test.want || string(got.Response.Body) != test.kept {
			t.Errorf("%s of %d bytes, status %d: %q (%s), body %.60q, want %q, %q",
				test.encoding, len(test.body), test.status, got.Reason, got.Detail, got.Response.Body, test.want, test.kept)
		}
		if test.want == batch.UnknownEncoding && !strings.Contains(got.Detail, test.encoding) {
			t.Errorf("the detail names no encoding: %s", got.Detail)
		}
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	elsewhere := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was called, with the key %q", r.Header.Get("Authorization"))
	})
	var location atomic.Value
	var calls atomic.Int32
	handler := func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		if body, _ := io.ReadAll(r.Body); !strings.Contains(string(body), "prompt-of-the-user") || r.Header.Get("Authorization") == "" || r.Method != http.MethodPost {
			t.Errorf("%s with the body %q", r.Method, body)
		}
		var status int
		if n, _ := fmt.Sscanf(r.URL.Path, "/%d", &status); n == 0 {
			_, _ = io.WriteString(w, okBody)
			return
		}
		if l, _ := location.Load().(string); l != "" {
			w.Header().Set("Location", l)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "moved")
	}
	base := newServer(t, handler)
	secure := httptest.NewTLSServer(http.HandlerFunc(handler))
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	client := newClient(t, Config{TLS: &tls.Config{RootCAs: roots}})
	for _, test := range []struct {
		from, location string
		status         int
		want           batch.Reason
		calls          int32
		detail         string
	}{
		{base, "/v1/chat/completions", 307, "", 2, ""},
		{base, base + "/v1/chat/completions?a=1", 308, "", 2, ""},
		{base, secure.URL + "/v1/chat/completions", 308, "", 2, ""},
		{secure.URL, "/v1/chat/completions", 307, "", 2, ""},
		{base, elsewhere + "/v1/chat/completions", 307, batch.Redirected, 1, strings.TrimPrefix(elsewhere, "http://")},
		{secure.URL, base + "/v1/chat/completions", 308, batch.Redirected, 1, strings.TrimPrefix(base, "http://")},
		{base, "https://login.example/sso?secret=query-of-the-user", 302, batch.Redirected, 1, "login.example"},
		{base, "/v1/chat/completions", 301, batch.Redirected, 1, strings.TrimPrefix(base, "http://")},
		{base, "/v1/chat/completions", 303, batch.Redirected, 1, ""},
		{base, "", 307, batch.Redirected, 1, "without a target"},
		{base, "/307", 307, batch.Redirected, 1 + maxRedirects, ""},
		{base, "ftp://x/y", 307, batch.Redirected, 1, "no URL"},
	} {
		calls.Store(0)
		location.Store(test.location)
		request := chatRequest(test.from)
		request.Path = fmt.Sprintf("/%d", test.status)
		got := client.Do(t.Context(), request)
		if got.Reason != test.want || calls.Load() != test.calls || !strings.Contains(got.Detail, test.detail) {
			t.Errorf("%d from %s to %s: %q (%s) after %d calls, want %q after %d", test.status, test.from, test.location, got.Reason, got.Detail, calls.Load(), test.want, test.calls)
		}
		checkNoSecret(t, got.Detail)
	}
}
