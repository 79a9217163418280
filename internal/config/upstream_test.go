package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// UPSTREAM_API_KEY goes to UPSTREAM_URL and nowhere else.
func TestKeyFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, models, model, want string }{
		{"https://one.example/v1", "", "m", "the-key"},
		{"https://one.example/v1", "m=https://two.example/v1", "m", ""},
		{"https://one.example/v1", "m=https://two.example/v1", "other", "the-key"},
		{"https://one.example/v1", "m=https://u:p@two.example/v1", "m", ""},
		{"https://one.example/v1", "m=https://one.example/v1/", "m", "the-key"}, // the same endpoint
		{"https://one.example/v1", "m=https://one.example/v2", "m", ""},
		{"https://u:p@one.example/v1", "", "m", ""},
		{"", "m=https://two.example/v1", "m", ""},
		{"https://one.example/v1", "m=https://one.example/v1 https://two.example/v1", "m", ""}, // it would go to both
		{"https://one.example/v1 https://two.example/v1", "", "m", "the-key"},
		{"https://one.example/v1", `{"m":{"url":"https://two.example","api_key":"its-own"}}`, "m", "its-own"},
		{"https://one.example/v1", `{"m":{"api_key":"its-own"}}`, "m", "its-own"},
		{"https://one.example/v1", `{"m":{"model":"other"}}`, "m", "the-key"},
		{"", "m=https://two.example/v1", "other", ""},
	} {
		var u Upstream
		for _, err := range []error{u.URL.Set(test.url), u.APIKey.Set("the-key"), u.Models.Set(test.models)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := u.KeyFor(batch.Model(test.model)); got != test.want {
			t.Errorf("UPSTREAM_URL %s, MODEL_UPSTREAMS %s: the key for %s is %q, want %q", test.url, test.models, test.model, got, test.want)
		}
	}
}

// AUTH, HEADERS and PATH are how UPSTREAM_URL is spoken to, and a model may change
// that; an endpoint of its own has nothing of them.
func TestOptionsFor(t *testing.T) {
	t.Parallel()
	headers := func(pairs ...string) (all endpoint.Headers) {
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, endpoint.Header{Name: pairs[i], Value: pairs[i+1]})
		}
		return all
	}
	for name, test := range map[string]struct {
		url, auth, headers, path, models string
		want                             *endpoint.Options
	}{
		"as OpenAI's":            {url: "http://a"},
		"all of it":              {url: "http://a", auth: "API-Key", headers: "x-b=2, x-a: 1", path: "/p/{model}", want: &endpoint.Options{Auth: "api-key", Headers: headers("X-A", "1", "X-B", "2"), Path: "/p/{model}"}},
		"several URLs":           {url: "http://a/,http://b/v1 ,https://c", want: &endpoint.Options{More: []string{"http://b/v1", "https://c"}}},
		"an endpoint of its own": {url: "http://a", auth: "api-key", headers: "a=1", path: "/p", models: "m=http://b"},
		"its own manner":         {url: "http://a", auth: "api-key", models: `{"m":{"url":"http://b","auth":"none","headers":{"A":"1,2"}}}`, want: &endpoint.Options{Auth: "none", Headers: headers("A", "1,2")}},
		"another name":           {url: "http://a", auth: "api-key", models: `{"m":{"model":"other"}}`, want: &endpoint.Options{Auth: "api-key", Model: "other"}},
		"laid over":              {url: "http://a", auth: "api-key", headers: "a=1,b=2", path: "/p", models: `{"m":{"auth":"basic","headers":{"b":"3"},"path":"/q"}}`, want: &endpoint.Options{Auth: "basic", Headers: headers("A", "1", "B", "3"), Path: "/q"}},
	} {
		var u Upstream
		for _, err := range []error{u.URL.Set(test.url), u.Auth.Set(test.auth), u.Headers.Set(test.headers), u.Path.Set(test.path), u.Models.Set(test.models)} {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if diff := cmp.Diff(test.want, u.OptionsFor("m")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://a, b":         "has URL number 2, which does not begin with",
		"http://a http://a/":  "has URL number 2 twice",
		"http://a http://b#c": "has URL number 2, which has a fragment",
		"ftp://a":             "does not begin with",
	} {
		assertSet(t, new(HTTPURLs), text, want)
	}
	var u HTTPURLs
	if err := u.Set("http://u:hunter2@a?k=hunter2 http://[::1]:8000/v1"); err != nil || u.String() != "http://redacted@a?redacted http://[::1]:8000/v1" {
		t.Errorf("%v, %v", u, err)
	}
}

// STREAM and SEND_PRIORITY are for every endpoint, and a model may say otherwise.
func TestSwitchesFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		stream, models, model string
		want                  bool
	}{
		{"", "", "m", false},
		{"on", "", "m", true},
		{"off", "", "m", false},
		{"on", "m=http://b", "m", true},
		{"on", `{"m":{"stream":"off"}}`, "m", false},
		{"on", `{"m":{"stream":"off"}}`, "other", true},
		{"off", `{"m":{"url":"http://b","stream":"on"}}`, "m", true},
		{"", `{"m":{"stream":"on"}}`, "m", true},
	} {
		var u Upstream
		for _, err := range []error{u.URL.Set("http://a"), u.Stream.Set(test.stream), u.Models.Set(test.models)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := u.OptionsFor(batch.Model(test.model)).Streams(); got != test.want {
			t.Errorf("UPSTREAM_STREAM=%s, MODEL_UPSTREAMS=%s: %s streams: %t, want %t", test.stream, test.models, test.model, got, test.want)
		}
		// The same of the other switch, which the first says nothing of.
		var p Upstream
		for _, err := range []error{p.URL.Set("http://a"), p.SendPriority.Set(test.stream), p.Models.Set(strings.ReplaceAll(test.models, "stream", "send_priority"))} {
			if err != nil {
				t.Fatal(err)
			}
		}
		o := p.OptionsFor(batch.Model(test.model))
		if o.SendsPriority() != test.want || o.Streams() || u.OptionsFor(batch.Model(test.model)).SendsPriority() {
			t.Errorf("UPSTREAM_SEND_PRIORITY=%s, MODEL_UPSTREAMS=%s: %+v, want %t", test.stream, p.Models, o, test.want)
		}
		var again ModelUpstreams
		if err := again.Set(p.Models.String()); err != nil || !cmp.Equal(again["m"].options(), p.Models["m"].options()) {
			t.Errorf("%s is read as %s, %v", p.Models, again, err)
		}
	}
	for _, text := range []string{"true", "ON", " on"} {
		if err := new(Switch).Set(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	for _, text := range []string{`{"m":{"stream":true}}`, `{"m":{"send_priority":true}}`, `{"m":{"send_priority":"1"}}`} {
		if err := new(ModelUpstreams).Set(text); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}
