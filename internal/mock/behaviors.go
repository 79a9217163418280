package mock

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

const (
	// bombBytes and hugeBytes are beyond what a client takes, which is 64 MiB
	// unless it is told otherwise.
	bombBytes = 150 << 20
	hugeBytes = 65 << 20
	slowPause = 50 * time.Millisecond
)

// redirectedParameter is in the query of a request that was sent on.
const redirectedParameter = "mock_redirected"

// behaviors is set by init: some refer to what refers to it.
var behaviors []Behavior

func init() {
	behaviors = []Behavior{
		// An error under a success status.
		answers("error-body", 200, `{"error":{"message":"boom","type":"server_error","code":500}}`, "an error object of a server's error, under status 200"),
		answers("error-text", 200, `{"error":"model is overloaded"}`, "an error in words, under status 200"),
		answers("rate-limit-body", 200, `{"error":{"message":"slow down","code":429}}`, "an error object of a rate limit, under status 200"),
		answers("bad-request-body", 200, `{"error":{"message":"no","type":"invalid_request_error","code":400}}`, "an error object of a bad request, under status 200"),
		edits("finish-error", `"finish_reason":"stop"`, `"finish_reason":"error"`, "a choice whose `finish_reason` is `error`"),
		edits("choices-null", `"choices":[`, `"choices":null,"was":[`, "`choices` that is null"),

		// No answer.
		answers("html", 200, "<!DOCTYPE html><html><body>Please log in</body></html>", "a page of HTML, under status 200"),
		answers("empty", 200, "", "status 200 and no body"),
		answers("text", 200, "OK", "the text OK, under status 200"),
		answers("array", 200, "[]", "an array"),
		answers("accepted", 202, "{}", "status 202"),
		answers("no-content", 204, "", "status 204"),
		wraps("bom", "\ufeff", "", "the answer after a byte order mark"),
		wraps("trailing", "", "\n\ndata: [DONE]\n\n", "the answer, and more behind it"),
		{"event-stream", "an event stream that nobody asked for", 200, func(t *turn) {
			t.send(200, "text/event-stream", fmt.Appendf(nil, "data: %s\n\ndata: [DONE]\n\n", t.answer))
		}},
		{"ndjson", "several objects, one a line", 200, func(t *turn) {
			t.send(200, "application/x-ndjson", fmt.Appendf(nil, "%s\n%s\n", t.answer, t.answer))
		}},
		edits("response-failed", `"status":"completed"`, `"status":"failed"`, "a response of `/v1/responses` that failed"),
		edits("response-incomplete", `"status":"completed"`, `"status":"incomplete"`, "a response that is incomplete"),
		edits("response-queued", `"status":"completed"`, `"status":"queued"`, "a response that is queued"),

		// Statuses.
		fails("bad-request", 400, "invalid_request_error", "invalid_value", "status 400"),
		fails("context-length", 400, "invalid_request_error", "context_length_exceeded", "status 400: the prompt is too long"),
		fails("unauthorized", 401, "invalid_request_error", "invalid_api_key", "status 401"),
		fails("forbidden", 403, "permission_error", "forbidden", "status 403"),
		fails("model-not-found", 404, "invalid_request_error", "model_not_found", "status 404: the model isn't there"),
		answers("not-found", 404, `{"detail":"Not Found"}`, "status 404, without a code"),
		fails("rate-limit", 429, "requests", "rate_limit_exceeded", "status 429"),
		fails("insufficient-quota", 429, "insufficient_quota", "insufficient_quota", "status 429: the account is exhausted"),
		fails("server-error", 500, "server_error", "internal_error", "status 500"),
		fails("unavailable", 503, "server_error", "unavailable", "status 503"),
		fails("overloaded", 529, "overloaded_error", "overloaded_error", "status 529"),
		retryAfter("retry-after-epoch", "1771404540", "status 429, `Retry-After` a time in Unix seconds"),
		retryAfter("retry-after-huge", "9999999999", "status 429, `Retry-After` 9999999999"),
		retryAfter("retry-after-infinity", "Infinity", "status 429, `Retry-After` Infinity"),
		retryAfter("retry-after-words", "soon", "status 429, `Retry-After` that is no number"),

		// Redirects.
		{"redirect", "a 307 to the same host, where the answer is", 307, func(t *turn) { t.redirect(307, t.r.URL.Path+"?"+redirectedParameter+"=1") }},
		{"redirect-elsewhere", "a 302 to a login page on another host", 302, func(t *turn) { t.redirect(302, "https://login.example/") }},
		{"redirect-loop", "a 307 to itself", 307, func(t *turn) { t.redirect(307, t.r.URL.Path) }},

		// Encodings that nobody asked for.
		encodes("gzip", "gzip", func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) }),
		encodes("deflate", "deflate", func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }),
		encodes("br", "br", func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) }),
		encodes("zstd", "zstd", func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w)
			if err != nil {
				panic(err) // without options nothing can be wrong
			}
			return z
		}),
		{"encoding-unknown", "a `Content-Encoding` that nobody knows", 200, func(t *turn) {
			t.w.Header().Set("Content-Encoding", "snappy")
			t.send(200, "application/json", t.answer)
		}},
		{"gzip-cut", "gzip that breaks off", 200, func(t *turn) {
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			_, _ = z.Write(t.answer)
			_ = z.Close()
			t.w.Header().Set("Content-Encoding", "gzip")
			t.send(200, "application/json", packed.Bytes()[:packed.Len()/2])
		}},
		{"bomb", "150 MiB in 150 KB of gzip", 200, func(t *turn) {
			t.w.Header().Set("Content-Encoding", "gzip")
			t.w.WriteHeader(200)
			z := gzip.NewWriter(t.w)
			writeSpaces(z, bombBytes)
			_ = z.Close()
		}},
		{"huge", "a body of 65 MiB", 200, func(t *turn) {
			t.w.Header().Set("Content-Type", "application/json")
			t.w.WriteHeader(200)
			_, _ = t.w.Write(t.answer)
			writeSpaces(t.w, hugeBytes)
		}},

		// JSON that readers stumble over.
		edits("nan", `"created":`, `"nan":NaN,"created":`, "NaN in the answer of a chat or completion"),
		edits("utf8", `"model":"`, "\"bytes\":\"\xff\xfe\",\"model\":\"", "bytes that are no UTF-8"),
		edits("surrogate", `"model":"`, `"half":"\ud800","model":"`, "half a surrogate pair"),
		edits("line-ends", `"model":"`, "\"ends\":\"a\u2028b\u2029c\u0085d\",\"model\":\"", "U+2028, U+2029 and U+0085"),
		edits("number", `"model":"`, `"number":1e400,"model":"`, "a number that no double holds"),
		edits("deep", `"model":"`, `"deep":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`,"model":"`, "5,000 levels of arrays"),

		// Connections.
		{"hang", "no answer until the client goes away", 0, func(t *turn) { <-t.r.Context().Done(); panic(http.ErrAbortHandler) }},
		{"stall", "half of the answer, and then nothing until the client goes away", 0, func(t *turn) {
			t.half()
			<-t.r.Context().Done()
			panic(http.ErrAbortHandler)
		}},
		{"slow", "the answer, a few bytes at a time", 200, (*turn).slow},
		{"truncated", "half of the answer, and the connection closed", 0, func(t *turn) { t.half(); panic(http.ErrAbortHandler) }},
		{"chunks-cut", "chunks without the last one", 0, func(t *turn) {
			t.raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+
				fmt.Sprintf("%x\r\n%s\r\n", len(t.answer), t.answer), false)
		}},
		{"length-short", "a `Content-Length` that is 10 bytes too small", 0, func(t *turn) {
			t.raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(t.answer)-10, t.answer), false)
		}},
		{"length-long", "a `Content-Length` that is 10 bytes too large", 0, func(t *turn) {
			t.raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(t.answer)+10, t.answer), false)
		}},
		{"reset", "the connection reset before any answer", 0, func(t *turn) { t.raw("", true) }},
		{"close", "the connection closed before any answer", 0, func(t *turn) { t.raw("", false) }},
		{"close-after", "the answer, and the connection closed without a word of it", 200, func(t *turn) {
			t.raw(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(t.answer), t.answer), false)
		}},
		{"no-http", "bytes that are no HTTP", 0, func(t *turn) { t.raw("hello\r\n\r\n", false) }},
	}
}

func answers(name string, status int, body, doc string) Behavior {
	return Behavior{name, doc, status, func(t *turn) { t.send(status, contentTypeOf(body), []byte(body)) }}
}

func contentTypeOf(body string) string {
	switch {
	case strings.HasPrefix(body, "<"):
		return "text/html"
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
		return "application/json"
	}
	return "text/plain"
}

// edits answers with a text replaced once; an answer without it stays as it is.
func edits(name, old, replacement, doc string) Behavior {
	return Behavior{name, doc, 200, func(t *turn) {
		t.send(200, "application/json", bytes.Replace(t.answer, []byte(old), []byte(replacement), 1))
	}}
}

func wraps(name, before, after, doc string) Behavior {
	return Behavior{name, doc, 200, func(t *turn) {
		t.send(200, "application/json", []byte(before+string(t.answer)+after))
	}}
}

func fails(name string, status int, kind, code, doc string) Behavior {
	return Behavior{name, doc, status, func(t *turn) {
		writeJSON(t.w, status, errorBody{errorObject{Message: "this was asked for: " + name, Type: kind, Code: &code}})
	}}
}

func retryAfter(name, value, doc string) Behavior {
	return Behavior{name, doc, 429, func(t *turn) {
		t.w.Header().Set("Retry-After", value)
		writeError(t.w, 429, "this was asked for: "+name)
	}}
}

func encodes(name, encoding string, writer func(io.Writer) io.WriteCloser) Behavior {
	return Behavior{name, "the answer in " + encoding, 200, func(t *turn) {
		var packed bytes.Buffer
		w := writer(&packed)
		_, _ = w.Write(t.answer)
		_ = w.Close()
		t.w.Header().Set("Content-Encoding", encoding)
		t.send(200, "application/json", packed.Bytes())
	}}
}

func (t *turn) send(status int, contentType string, body []byte) {
	t.w.Header().Set("Content-Type", contentType)
	t.w.WriteHeader(status)
	_, _ = t.w.Write(body) // a failed write means that the client has gone
}

func (t *turn) redirect(status int, to string) {
	t.w.Header().Set("Location", to)
	t.w.WriteHeader(status)
}

// half sends the first half of the answer, and says that there is more.
func (t *turn) half() {
	t.w.Header().Set("Content-Type", "application/json")
	t.w.Header().Set("Content-Length", fmt.Sprint(len(t.answer)))
	t.w.WriteHeader(200)
	_, _ = t.w.Write(t.answer[:len(t.answer)/2])
	_ = http.NewResponseController(t.w).Flush()
}

func (t *turn) slow() {
	t.w.Header().Set("Content-Type", "application/json")
	t.w.WriteHeader(200)
	pause := time.NewTicker(slowPause)
	defer pause.Stop()
	for part := range bytes.SplitAfterSeq(t.answer, []byte(",")) {
		_, _ = t.w.Write(part)
		_ = http.NewResponseController(t.w).Flush()
		select {
		case <-pause.C:
		case <-t.r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
}

// raw writes bytes to the connection and closes it, or resets it.
func (t *turn) raw(text string, reset bool) {
	conn, _, err := http.NewResponseController(t.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no such thing: cut the stream
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(readTimeout))
	_, _ = io.WriteString(conn, text)
	_ = conn.Close()
}

func writeSpaces(w io.Writer, n int) {
	block := bytes.Repeat([]byte(" "), 64<<10)
	for n > 0 {
		if _, err := w.Write(block[:min(n, len(block))]); err != nil {
			return
		}
		n -= len(block)
	}
}
