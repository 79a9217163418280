package endpoint

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAuth(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                           "Authorization: Bearer u:k",
		"Bearer":                     "Authorization: Bearer u:k",
		"api-key":                    "Api-Key: u:k",
		"X-API-Key":                  "X-Api-Key: u:k",
		"basic":                      "Authorization: Basic dTpr",
		"none":                       ": ",
		"x-token: Bearer {key}":      "X-Token: Bearer u:k",
		" Authorization:Token {key}": "Authorization: Token u:k",
		"Cookie: a={key}; b={key}":   "Cookie: a=u:k; b=u:k",
	} {
		auth, err := ParseAuth(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		name, value := auth.Header("u:k")
		if got := name + ": " + value; got != want {
			t.Errorf("%q sends %q, want %q", text, got, want)
		}
		if again, err := ParseAuth(string(auth)); err != nil || again != auth {
			t.Errorf("%q is read as %q, %v", auth, again, err)
		}
	}
	for text, want := range map[string]string{
		"digest":                 "is none of bearer, api-key",
		"X-Token: k":             "without {key}",
		"Host: {key}":            "the header Host, which every call sets itself",
		"idempotency-key:{key}":  "every call sets itself",
		"X Token: {key}":         "whose name is none",
		"X-Token: {key}\r\nA: b": "a character that no header can hold",
	} {
		if _, err := ParseAuth(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Headers{
		"":                                     nil,
		"anthropic-version: 2023-06-01":        {{"Anthropic-Version", "2023-06-01"}},
		"b=2,a=1=1\n c: x:y ":                  {{"A", "1=1"}, {"B", "2"}, {"C", "x:y"}},
		`{"HTTP-Referer":"https://e.com/a,b"}`: {{"Http-Referer", "https://e.com/a,b"}},
	} {
		got, err := ParseHeaders(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
		if again, err := ParseHeaders(got.JSON()); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%q is read as %v, %v", got.JSON(), again, err)
		}
	}
	for text, want := range map[string]string{
		"a":                              "without a value, number 1",
		"a=secret,b=":                    "header B without a value, or twice",
		"a=secret,A=2":                   "header A without a value, or twice",
		"content-length=1":               "every call sets itself",
		"x-fusillade-attempt=1":          "every call sets itself",
		"a=secret\x01":                   "the header A with a character",
		`{"a":1}`:                        "is not a JSON object whose values are strings",
		"a=" + strings.Repeat("x", 9000): "of more than 8192 bytes",
	} {
		if _, err := ParseHeaders(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ template, requested, model, want string }{
		{"/openai/deployments/{model}/{operation}", "/v1/chat/completions", "my gpt", "/openai/deployments/my%20gpt/chat/completions"},
		{"/models/{model}/v1/chat/completions", "/v1/chat/completions", "org/m:8b", "/models/org/m:8b/v1/chat/completions"},
		{"/{operation}", "/v2/rerank", "m", "/rerank"},
		{"/api/{operation}", "/score", "m", "/api/score"},
		{"/only", "/v1/embeddings", "../x", "/only"},
		{"/d/{model}", "/v1/embeddings", "../x", ""},
		{"/d/{model}", "/v1/embeddings", "a/./b", ""},
		{"/d/{model}", "/v1/embeddings", "/x", ""},
		{"/d/{model}/x", "/v1/embeddings", "a?b#c", "/d/a%3Fb%23c/x"},
	} {
		path, err := ParsePath(test.template)
		if err != nil {
			t.Fatal(err)
		}
		got, err := path.Expand(test.requested, test.model)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s of %s, %q: %q, %v", test.template, test.requested, test.model, got, err)
		}
	}
	for text, want := range map[string]string{
		"x": "does not begin with a slash", "/{name}": "braces", "/a?b=c": "? or #", "/a b": "blank", "/é": "percent-encoded",
		"/" + strings.Repeat("x", 2000): "too long",
	} {
		if _, err := ParsePath(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", text, err, want)
		}
	}
}

// What is stored is read again, and holds no value of a header.
func TestOptionsAreStored(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := &Options{
			More: rapid.SliceOfN(rapid.StringMatching(`http://[a-z]{1,9}`), 0, 3).Draw(t, "urls"),
			Auth: rapid.SampledFrom([]Auth{"", None, "X-A: {key}"}).Draw(t, "auth"),
			Path: rapid.SampledFrom([]Path{"", "/{model}"}).Draw(t, "path"), Model: rapid.String().Draw(t, "model"),
		}
		if len(want.More) == 0 {
			want.More = nil
		}
		for _, name := range rapid.SliceOfN(rapid.StringMatching(`x-[a-z]{1,5}`), 0, 4).Draw(t, "names") {
			if err := want.Headers.Set(name, "a-secret"); err != nil {
				t.Fatal(err)
			}
		}
		text := want.Encode()
		if strings.Contains(text, "a-secret") || (text == "") != want.IsZero() {
			t.Fatalf("stored as %s", text)
		}
		got, err := Decode(text)
		if err == nil && got != nil {
			got, err = got.WithSecrets(want.Headers.JSON())
		}
		if text != "" && (err != nil || !cmp.Equal(want, got)) {
			t.Fatalf("%v (-want +got):\n%s", err, cmp.Diff(want, got))
		}
	})
	if _, err := Decode("{"); err == nil {
		t.Error("what was not stored is read")
	}
	named, err := Decode(`{"headers":["A"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := named.WithSecrets(`{"B":"1"}`); err == nil {
		t.Error("another header's value is taken")
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://u:p@h/v1?key=k": "https://redacted@h/v1?redacted", "http://h": "http://h", "": "", "http://\x00": "",
	} {
		if got := Shown(text); got != want {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
}
