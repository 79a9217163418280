package upstream

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		name, seconds, ms, date string
		want                    time.Duration
	}{
		{name: "none"},
		{name: "seconds", seconds: "7", want: 7 * time.Second},
		{name: "fraction", seconds: "0.5", want: 500 * time.Millisecond},
		{name: "date", seconds: at(time.Minute), want: time.Minute},
		{name: "old date formats", seconds: now.Add(time.Minute).Format(time.ANSIC), want: time.Minute},
		{name: "date by their clock", seconds: at(time.Hour), date: at(time.Hour - time.Minute), want: time.Minute},
		{name: "past", seconds: at(-time.Minute)},
		{name: "milliseconds first", seconds: "7", ms: "250", want: 250 * time.Millisecond},
		{name: "bad milliseconds", seconds: "7", ms: "soon", want: 7 * time.Second},
		{name: "negative", seconds: "-7"},
		{name: "not a number", seconds: "NaN"},
		{name: "longer than a day", seconds: "604800", want: MaxRetryAfter},
		{name: "endless", seconds: "1e300"},
		{name: "infinity", seconds: "Infinity"},
		{name: "far date", seconds: at(1000 * time.Hour)},
		{name: "a point in time", seconds: strconv.FormatInt(now.Add(time.Minute).Unix(), 10), want: time.Minute},
		{name: "a point in the past", seconds: "1771404540"},
		{name: "a far point in time", seconds: "9999999999"},
		{name: "a point in time, in milliseconds", seconds: "1771404540000"},
		{name: "a point in time to come, in milliseconds", seconds: strconv.FormatInt(now.Add(time.Minute).UnixMilli(), 10), want: time.Minute},
		{name: "RFC 3339", seconds: now.Add(time.Minute).Format(time.RFC3339Nano), want: time.Minute},
		{name: "RFC 3339, past", seconds: now.Add(-time.Minute).Format(time.RFC3339)},
		{name: "with blanks", seconds: "  12 ", want: 12 * time.Second},
		{name: "joined by a proxy", seconds: "5, 5", want: 5 * time.Second},
		{name: "with its unit", seconds: "1m30s", want: 90 * time.Second},
		{name: "negative, with its unit", seconds: "-30s"},
		{name: "a date in lower case", seconds: strings.ToLower(at(time.Minute))},
		{name: "words", seconds: "in a while"},
	} {
		h := make(http.Header)
		h.Set("Retry-After", test.seconds)
		h.Set("retry-after-ms", test.ms)
		h.Set("Date", test.date)
		if got := retryAfter(h, now); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Of several headers the first that can be read counts.
func TestRetryAfterTwice(t *testing.T) {
	t.Parallel()
	h := http.Header{"Retry-After": {"soon", "7", "9"}}
	if got := retryAfter(h, time.Now()); got != 7*time.Second {
		t.Errorf("%v", got)
	}
}

func TestReadUsage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body  string
		model string
		usage batch.Usage
	}{
		{``, "", batch.Usage{}},
		{`[1]`, "", batch.Usage{}},
		{`not json`, "", batch.Usage{}},
		{`{"model":`, "", batch.Usage{}},
		{`{"model":"`, "", batch.Usage{}},
		{`{"model":"m`, "", batch.Usage{}},
		{` {"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`, "m", batch.Usage{PromptTokens: 1, CompletionTokens: 2}},
		{`{"usage":{"input_tokens":1,"input_tokens_details":{"output_tokens":9},"output_tokens":2},"model":"m"}`, "m", batch.Usage{PromptTokens: 1, CompletionTokens: 2}},
		{`{"usage":{"prompt_tokens_details":{"audio_tokens":9,"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":4},"prompt_tokens":5}}`, "", batch.Usage{PromptTokens: 5, CachedTokens: 3, ReasoningTokens: 4}},
		{`{"usage":{"input_tokens_details":{"cached_tokens":3},"output_tokens_details":{"x":1,"reasoning_tokens":4}}}`, "", batch.Usage{CachedTokens: 3, ReasoningTokens: 4}},
		{`{"usage":{"input_tokens_details":null,"output_tokens_details":[{"reasoning_tokens":4}]}}`, "", batch.Usage{}},
		{`{"choices":[{"model":"inner","usage":{"prompt_tokens":9}}],"model":"m\"\\\u00e9"}`, `m"\é`, batch.Usage{}},
		{`{"model":null,"usage":null}`, "", batch.Usage{}},
		{`{"model":7,"usage":[]}`, "", batch.Usage{}},
		{`{"model":"a\u0000b","usage":{"prompt_tokens":-1,"completion_tokens":1e3}}`, "a\uFFFDb", batch.Usage{}},
		{"{\"model\":\"\xff\"}", "\uFFFD", batch.Usage{}},
		{`{"text":"\\\\\" \"model\":\"no\" ","model":"yes"}`, "yes", batch.Usage{}},
	} {
		m := readMembers([]byte(test.body))
		model, usage := readUsage(&m)
		if model != test.model || usage != test.usage {
			t.Errorf("%s: %q, %+v", test.body, model, usage)
		}
	}
}

func TestReadUsageAgreesWithJSON(t *testing.T) {
	t.Parallel()
	leaf := rapid.OneOf(
		rapid.Map(rapid.StringMatching(`["\\{}\[\],: a-zé]{0,12}`), func(s string) any { return s }),
		rapid.Map(rapid.Int(), func(n int) any { return n }),
		rapid.Just[any](nil), rapid.Just[any](true),
	)
	value := rapid.Custom(func(t *rapid.T) any {
		return map[string]any{"model": leaf.Draw(t, "inner"), "list": rapid.SliceOf(leaf).Draw(t, "list")}
	})
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.MapOf(rapid.StringMatching(`[a-z"\\]{1,6}`), rapid.OneOf(leaf, value)).Draw(t, "others")
		model := rapid.StringMatching(`["\\{}\[\],: a-z/.-]{0,12}`).Draw(t, "model")
		want := batch.Usage{PromptTokens: rapid.Int64Min(0).Draw(t, "prompt"), CompletionTokens: rapid.Int64Min(0).Draw(t, "completion")}
		object["model"] = model
		object["usage"] = map[string]any{"prompt_tokens": want.PromptTokens, "completion_tokens": want.CompletionTokens, "details": value.Draw(t, "details")}
		indent := rapid.SampledFrom([]string{"", "\t"}).Draw(t, "indent")
		body, err := json.MarshalIndent(object, "", indent)
		if err != nil {
			t.Fatal(err)
		}
		m := readMembers(body)
		gotModel, got := readUsage(&m)
		if diff := cmp.Diff(want, got); diff != "" || gotModel != model {
			t.Fatalf("%s\nmodel %q, usage (-want +got):\n%s", body, gotModel, diff)
		}
	})
}

func FuzzReadUsage(f *testing.F) {
	f.Add([]byte(`{"model":"m","usage":{"prompt_tokens":1}}`))
	f.Add([]byte(`{"a":[{"b\\":"\""}],"model":"\u0041"}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		m := readMembers(body)
		readUsage(&m)
	})
}
