package upstream

import (
	"strings"
	"testing"
)

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status  int
		body    string
		refused bool
		message string
	}{
		"OpenAI's bad key":   {401, `{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}`, true, "Incorrect API key provided"},
		"no body":            {403, ``, true, ""},
		"a page":             {404, `<html>nothing here</html>`, true, ""},
		"a text":             {404, `{"error":"model \"x\" not found"}`, true, `model "x" not found`},
		"vLLM's bad model":   {404, `{"object":"error","message":"The model does not exist.","type":"NotFoundError","code":404}`, true, "The model does not exist."},
		"no quota":           {429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`, true, "You exceeded your current quota"},
		"a rate limit":       {429, `{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}`, false, ""},
		"nothing said":       {429, ``, false, ""},
		"a bad request":      {400, `{"error":{"message":"bad","code":"insufficient_quota"}}`, false, ""},
		"a server's error":   {500, `{"error":{"message":"oops"}}`, false, ""},
		"lines and controls": {401, "{\"error\":{\"message\":\"one\\n two\\u0000\"}}", true, "one two\uFFFD"},
	} {
		got := refusalOf(tt.status, []byte(tt.body))
		if (got != nil) != tt.refused {
			t.Errorf("%s: refused: %t", name, got != nil)
		} else if got != nil && got.Message != tt.message {
			t.Errorf("%s: message %q, want %q", name, got.Message, tt.message)
		}
	}
	if got := refusalOf(401, []byte(`{"error":{"message":"`+strings.Repeat("x", maxErrorBody)+`"}}`)); got == nil || got.Message != "" {
		t.Errorf("a huge body: %v", got)
	}
}
