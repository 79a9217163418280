package config

import (
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// modelNames yields names with the characters that the spellings treat
// specially well represented.
func modelNames() *rapid.Generator[string] {
	special := rapid.StringOfN(rapid.SampledFrom([]rune(`ab/.:=,@{}" -<&é`)), 1, 12, -1)
	anything := rapid.StringN(1, 12, -1)
	return rapid.OneOf(special, anything).Filter(func(name string) bool { return !strings.ContainsRune(name, 0) })
}

func TestModelLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want ModelLimits
		err  string
	}{
		{"", ModelLimits{}, ""},
		{"gpt-4=5,llama3:70b=20,meta-llama/Llama-3.1-8B=64", ModelLimits{"gpt-4": 5, "llama3:70b": 20, "meta-llama/Llama-3.1-8B": 64}, ""},
		{" my model = 5 , b=1", ModelLimits{"my model": 5, "b": 1}, ""},
		{"a=b=3", ModelLimits{"a=b": 3}, ""},
		{`{"a,b":3, "c":4}`, ModelLimits{"a,b": 3, "c": 4}, ""},
		{"a=auto,b=auto:4-200", ModelLimits{"a": batch.AutoLimit(1, 1000), "b": batch.AutoLimit(4, 200)}, ""},
		{`{"a":"auto","b":"auto:4-200","c":4}`, ModelLimits{"a": batch.AutoLimit(1, 1000), "b": batch.AutoLimit(4, 200), "c": 4}, ""},
		{"a=auto:5-4", nil, `has the element "a=auto:5-4", whose limit is no automatic limit`},
		{"a=1,a=2", nil, `has the model "a" twice`},
		{`{"a":1,"a":2}`, nil, `has the model "a" twice`},
		{"a=1,b=0", nil, `has the element "b=0"`},
		{"a=1,b=-2", nil, `has the element "b=-2"`},
		{"a=1,b=many", nil, `has the element "b=many"`},
		{"a=1,b=1.5", nil, `has the element "b=1.5"`},
		{"a=1,b=1000001", nil, `has the element "b=1000001"`},
		{`{"b":"5"}`, nil, "whose limit is not a whole number"},
		{"a=1,,b=2", nil, "has an empty element, number 2"},
		{"a=1,", nil, "has an empty element, number 2"},
		{"a=1,gpt", nil, "has an element without a value, number 2"},
		{"=3", nil, "cannot be a model's name"},
		{`{"a":1`, nil, "is not a JSON object"},
		{`{"a"}`, nil, "is not a JSON object"},
		{`{"a":1}{}`, nil, "has something after the JSON object"},
		{`{"a\u0000":1}`, nil, "cannot be a model's name"},
		{"\xff=1", nil, "cannot be a model's name"},
		{"{\"\xff\":1}", nil, "is not a JSON object"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			var got ModelLimits
			assertSet(t, &got, tt.text, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
		})
	}
}

func assertSet(t *testing.T, dst interface{ Set(string) error }, text, problem string) {
	t.Helper()
	switch err := dst.Set(text); {
	case problem == "" && err != nil:
		t.Errorf("Set(%q): %v", text, err)
	case problem != "" && !strings.Contains(errorOf(err), problem):
		t.Errorf("Set(%q): %q, want %q in it", text, errorOf(err), problem)
	}
}

func TestModelLimitsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := ModelLimits{}
		for name, limit := range rapid.MapOf(modelNames(), modelLimits()).Draw(t, "limits") {
			want[batch.Model(name)] = limit
		}
		var got ModelLimits
		if err := got.Set(want.String()); err != nil {
			t.Fatalf("Set(%q): %v", want, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", want, diff)
		}
	})
}

// modelLimits are numbers, and automatic ones.
func modelLimits() *rapid.Generator[batch.Limit] {
	return rapid.Custom(func(t *rapid.T) batch.Limit {
		most := rapid.IntRange(1, batch.MaxLimit).Draw(t, "most")
		if rapid.Bool().Draw(t, "auto") {
			return batch.AutoLimit(rapid.IntRange(1, most).Draw(t, "least"), most)
		}
		return batch.Limit(most)
	})
}

// The short spelling holds every name without a comma, and without a blank or
// a brace at its ends.
func TestModelLimitsShort(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := modelNames().Filter(func(name string) bool {
			return !strings.Contains(name, ",") && !strings.HasPrefix(name, "{") && name == strings.TrimSpace(name)
		}).Draw(t, "name")
		limit := rapid.IntRange(1, batch.MaxLimit).Draw(t, "limit")
		var got ModelLimits
		text := short(map[batch.Model]int{batch.Model(name): limit}, func(int) string { return Milliseconds(limit * 1e6).String() })
		if err := got.Set(text); err != nil || got[batch.Model(name)] != batch.Limit(limit) {
			t.Fatalf("Set(%q): %v, %v", text, got, err)
		}
	})
}

func TestModelEscalations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want ModelEscalations
		err  string
	}{
		{"", ModelEscalations{}, ""},
		{"gpt-4=o1-preview@900s", ModelEscalations{"gpt-4": {"o1-preview", 900 * time.Second}}, ""},
		{"gpt-4=o1-preview", ModelEscalations{"gpt-4": {"o1-preview", 900 * time.Second}}, ""},
		{"llama3:70b=meta/L.1@1h30m, b=c@1d", ModelEscalations{"llama3:70b": {"meta/L.1", 90 * time.Minute}, "b": {"c", 24 * time.Hour}}, ""},
		{"a=claude@20240620@60s", ModelEscalations{"a": {"claude@20240620", time.Minute}}, ""},
		{"a@1=b", ModelEscalations{"a@1": {"b", 900 * time.Second}}, ""},
		{`{"gpt-4":{"escalation_model":"o1-preview","escalation_threshold_seconds":900}}`, ModelEscalations{"gpt-4": {"o1-preview", 900 * time.Second}}, ""},
		{`{"a":{"escalation_model":"b=c"}}`, ModelEscalations{"a": {"b=c", 900 * time.Second}}, ""},
		{"a=a@9s", nil, `has the model "a" escalate to itself`},
		{`{"a":{"escalation_model":"a"}}`, nil, `has the model "a" escalate to itself`},
		{"a=b,a=c", nil, `has the model "a" twice`},
		{"a=b@900", nil, `has the element "a=b@900" with a bad threshold`},
		{"a=b@20240620", nil, "a model with an @ in its name needs one after it, as in b@20240620@900s"},
		{"a=b@-5s", nil, "bad threshold"},
		{"a=b@0s", nil, "bad threshold"},
		{"a=b@1500ms", nil, "not whole seconds"},
		{"a", nil, "has an element without a value, number 1"},
		{"a=", nil, "cannot be a model's name"},
		{`{"a":{}}`, nil, "cannot be a model's name"},
		{`{"a":"b"}`, nil, `has the model "a" with a value that is not an object`},
		{`{"a":{"escalation_model":"b","threshold":3}}`, nil, "not an object of escalation_model"},
		{`{"a":{"escalation_model":"b","escalation_threshold_seconds":0}}`, nil, "not from 1 to 31536000"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			var got ModelEscalations
			assertSet(t, &got, tt.text, tt.err)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("escalations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestModelEscalationsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := ModelEscalations{}
		for from, to := range rapid.MapOf(modelNames(), modelNames()).Draw(t, "models") {
			if from == to {
				continue
			}
			seconds := rapid.Int64Range(1, maxMilliseconds/1000).Draw(t, "seconds")
			want[batch.Model(from)] = Escalation{batch.Model(to), time.Duration(seconds) * time.Second}
		}
		var got ModelEscalations
		if err := got.Set(want.String()); err != nil {
			t.Fatalf("Set(%q): %v", want, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", want, diff)
		}
	})
}

func TestModelUpstreams(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want map[batch.Model]string
		err  string
	}{
		{"gpt-4=https://a.example/v1/,b=http://u:hunter2@b:8000", map[batch.Model]string{"gpt-4": "https://a.example/v1", "b": "http://u:hunter2@b:8000"}, ""},
		{"a=b=https://x", map[batch.Model]string{"a=b": "https://x"}, ""},
		{`{"a,b":"https://x"}`, map[batch.Model]string{"a,b": "https://x"}, ""},
		{"a=", nil, `has the model "a" without a URL`},
		{"a", nil, "has an element without a value, number 1"},
		{"a=https://x,a=https://y", nil, `has the model "a" twice`},
		{"a=nats://u:hunter2@x", nil, `has the model "a" with a URL that does not begin with`},
		{`{"a":{"url":"https://u:hunter2@x"}}`, map[batch.Model]string{"a": "https://u:hunter2@x"}, ""},
		{"a=http://x http://y,b=http://z", map[batch.Model]string{"a": "http://x http://y", "b": "http://z"}, ""},
		{`{"a":{"url":["http://x","http://y"],"auth":"api-key"}}`, map[batch.Model]string{"a": "http://x http://y"}, ""},
		{`{"a":{"model":"b"}}`, map[batch.Model]string{"a": ""}, ""},
		{`{"a":7}`, nil, `has the model "a" with a value that is neither a string nor an object`},
		{`{"a":{}}`, nil, `has the model "a" with an object that says nothing`},
		{`{"a":{"uri":"https://x"}}`, nil, `with the member "uri", which is none of url, api_key, auth`},
		{`{"a":{"url":"https://x","api_key":"hunter2 x"}}`, nil, `with the member "api_key", which holds a blank`},
		{`{"a":{"url":"https://x","auth":"hunter2"}}`, nil, `with the member "auth", which is none of bearer, api-key`},
		{`{"a":{"url":"https://x","headers":{"Host":"hunter2"}}}`, nil, `with the member "headers", which has the header Host, which every call sets itself`},
		{`{"a":{"url":"https://x","path":"no-slash"}}`, nil, `with the member "path", which is a path that does not begin with a slash`},
		{`{"a":{"url":"https://x","model":7}}`, nil, `with the member "model", which is not a string`},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			t.Parallel()
			var got ModelUpstreams
			assertSet(t, &got, tt.text, tt.err)
			if err := new(ModelUpstreams).Set(tt.text); strings.Contains(errorOf(err), "hunter2") {
				t.Errorf("error shows a password: %v", err)
			}
			revealed := map[batch.Model]string(nil)
			for model, endpoint := range got {
				if revealed == nil {
					revealed = map[batch.Model]string{}
				}
				revealed[model] = strings.Join(endpoint.URL.All(), " ")
			}
			if diff := cmp.Diff(tt.want, revealed); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
			if strings.Contains(got.String(), "hunter2") {
				t.Errorf("shows a password: %v", got)
			}
		})
	}
}

func TestUpstreamFor(t *testing.T) {
	t.Parallel()
	var upstream Upstream
	if got := upstream.For("a"); got != "" {
		t.Errorf("without endpoints: %q", got)
	}
	if err := upstream.URL.Set("https://all/"); err != nil {
		t.Fatal(err)
	}
	if err := upstream.Models.Set("a=https://own"); err != nil {
		t.Fatal(err)
	}
	if got := []string{upstream.For("a"), upstream.For("b")}; !cmp.Equal(got, []string{"https://own", "https://all"}) {
		t.Errorf("endpoints %v", got)
	}
}

func TestDaemonModelLimit(t *testing.T) {
	t.Parallel()
	daemon := Daemon{DefaultModelConcurrency: 10, ModelConcurrencyLimits: ModelLimits{"a": 3}}
	if a, b := daemon.ModelLimit("a"), daemon.ModelLimit("b"); a != 3 || b != 10 {
		t.Errorf("limits %d and %d, want 3 and 10", a, b)
	}
}

func TestDaemonRetryPolicy(t *testing.T) {
	t.Parallel()
	daemon := Daemon{
		MaxRetries:         OptionalInt{Value: 7},
		MaxNotFoundRetries: 9,
		StopBeforeDeadline: OptionalMilliseconds{Value: Milliseconds(-time.Minute)},
		Backoff:            Milliseconds(time.Second),
		BackoffFactor:      3,
		MaxBackoff:         Milliseconds(time.Minute),
	}
	retries, notFound, stop := 7, 9, -time.Minute
	want := batch.RetryPolicy{MaxRetries: &retries, MaxNotFoundRetries: &notFound, StopBeforeDeadline: &stop, Backoff: time.Second, Factor: 3, MaxBackoff: time.Minute}
	if diff := cmp.Diff(want, daemon.RetryPolicy()); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
}
