package upstream

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// What is no one request's own fault is told from what is, by status and code.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status  int
		body    string
		kind    batch.RefusalCause // empty: it speaks for its own request alone
		message string
	}{
		"OpenAI's bad key":   {401, `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`, batch.CauseUnauthorized, "Incorrect API key provided"},
		"403 for a key":      {403, `{"error":{"message":"no","code":"invalid_api_key"}}`, batch.CauseUnauthorized, "no"},
		"no body":            {403, ``, batch.CauseForbidden, ""},
		"a filter":           {403, `{"error":{"message":"no","code":"content_filter"}}`, "", ""},
		"OpenRouter's":       {403, `{"error":{"code":403,"message":"flagged","metadata":{"reasons":["x"],"flagged_input":"y"}}}`, "", ""},
		"a page":             {404, `<html>nothing here</html>`, batch.CauseNotFound, ""},
		"a text":             {404, `{"error":"model \"x\" not found"}`, batch.CauseNotFound, `model "x" not found`},
		"vLLM's bad model":   {404, `{"object":"error","message":"The model does not exist.","type":"NotFoundError","code":404}`, batch.CauseNotFound, "The model does not exist."},
		"OpenAI's bad model": {404, `{"error":{"message":"The model does not exist","code":"model_not_found"}}`, batch.CauseModelNotFound, "The model does not exist"},
		"OpenAI's 403":       {403, `{"error":{"message":"no access to model","code":"model_not_found"}}`, batch.CauseModelNotFound, "no access to model"},
		"FastAPI's":          {404, `{"detail":"Not Found"}`, batch.CauseNotFound, "Not Found"},
		"Google's":           {403, `[{"error":{"code":403,"message":"API key not valid.","status":"PERMISSION_DENIED"}}]`, batch.CauseForbidden, "API key not valid."},
		"an open array":      {403, `[`, batch.CauseForbidden, ""},
		"no credit":          {402, `{"error":{"message":"Insufficient credits","code":402}}`, batch.CausePaymentRequired, "Insufficient credits"},
		"no quota":           {429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`, batch.CauseQuotaExhausted, "You exceeded your current quota"},
		"no quota, as 200":   {200, `{"error":{"message":"none left","code":"insufficient_quota"}}`, batch.CauseQuotaExhausted, "none left"},
		"a rate limit":       {429, `{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}`, "", ""},
		"nothing said":       {429, ``, "", ""},
		"a bad request":      {400, `{"error":{"message":"bad","code":"invalid_value"}}`, "", ""},
		"a server's error":   {500, `{"error":{"message":"oops"}}`, "", ""},
		"FastAPI's problems": {404, `{"detail":[{"loc":["path"],"msg":"no such route","type":"missing"}]}`, batch.CauseNotFound, "no such route"},
		"problem+json":       {404, `{"type":"about:blank","title":"Not Found","status":404}`, batch.CauseNotFound, "Not Found"},
		"Mistral's object":   {404, `{"object":"error","message":{"detail":[{"msg":"no such model"}]}}`, batch.CauseNotFound, "no such model"},
		"Workers AI's list":  {403, `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`, batch.CauseForbidden, "Authentication error"},
		"nested":             {401, `{"error":{"error":{"message":"inner"},"message":"outer"}}`, batch.CauseUnauthorized, "inner"},
		"other types beside": {401, `{"metadata":"x","error":{"metadata":7,"code":{},"message":"said"}}`, batch.CauseUnauthorized, "said"},
		"a page's title":     {403, "<!DOCTYPE html>\n<head><TITLE lang=en>\n Access &amp; more denied\n</TITLE>", batch.CauseForbidden, "Access & more denied"},
		"a plain text":       {403, "no such\ntenant", batch.CauseForbidden, "no such tenant"},
		"bytes":              {403, "\x00\x01\xff", batch.CauseForbidden, ""},
		"an event":           {401, "data: {\"error\":{\"message\":\"said\"}}\n\n", batch.CauseUnauthorized, "said"},
		"a bomb of lists":    {401, strings.Repeat("[", 3000) + strings.Repeat("]", 3000), batch.CauseUnauthorized, ""},
		"lines and controls": {401, "{\"error\":{\"message\":\"one\\n two\\u0000\"}}", batch.CauseUnauthorized, "one two\uFFFD"},
	} {
		got := classifyAs(t, tt.status, tt.body).Refusal
		switch {
		case (got != nil) != (tt.kind != ""):
			t.Errorf("%s: refused: %t", name, got != nil)
		case got != nil && (got.Kind != tt.kind || got.Message != tt.message):
			t.Errorf("%s: %s, message %q, want %s, %q", name, got.Kind, got.Message, tt.kind, tt.message)
		}
	}
	if got := classifyAs(t, 401, `{"error":{"message":"`+strings.Repeat("x", maxErrorBody)+`"}}`).Refusal; got == nil || got.Message != "" {
		t.Errorf("a huge body: %v", got)
	}
}

// A broken call names its cause, to the owner without the host.
func TestCausesOfBrokenCalls(t *testing.T) {
	t.Parallel()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	closed := httptest.NewServer(nil)
	closed.Close()
	c, err := New(Config{Timeout: time.Minute, ShouldRetry: func(Response) bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for url, want := range map[string]struct {
		kind  batch.RefusalCause
		cause string
	}{
		closed.URL: {batch.CauseConnectionRefused, "connection refused"},
		secure.URL: {batch.CauseBadCertificate, "untrusted certificate: it is signed by an unknown authority"},
		strings.Replace(plain.URL, "http:", "https:", 1): {batch.CauseNoTLS, "the endpoint does not speak TLS"},
		"http://nowhere.invalid":                         {batch.CauseNoSuchHost, "no such host"},
	} {
		o := c.Do(t.Context(), Request{Method: "POST", BaseURL: url, Path: "/v1/chat/completions", Body: []byte("{}")})
		if o.Refusal == nil && strings.Contains(url, "invalid") {
			t.Logf("%s: this machine has no DNS: %s", url, o.Detail)
			continue
		}
		if o.Refusal == nil || o.Refusal.Kind != want.kind || o.Cause != want.cause || o.Reason != batch.NetworkError {
			t.Errorf("%s: %+v with %+v, want %+v", url, o, o.Refusal, want)
		}
	}
}

func classifyAs(t *testing.T, status int, body string) Outcome {
	t.Helper()
	c, err := New(Config{Timeout: time.Minute, ShouldRetry: func(r Response) bool { return r.StatusCode == 429 || r.StatusCode == 404 || r.StatusCode >= 500 }})
	if err != nil {
		t.Fatal(err)
	}
	return c.classify(&Request{Path: "/v1/chat/completions"}, &http.Response{StatusCode: status, Header: http.Header{}}, received{body: []byte(body)})
}
