package mock

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNewNamesBadFields(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings Settings
		want     string
	}{
		{Settings{Latency: "50"}, `"50"`},
		{Settings{Latency: "-5ms"}, "-5ms"},
		{Settings{Latency: "2h"}, "2h0m0s"},
		{Settings{Latency: "uniform:10ms"}, "uniform:10ms"},
		{Settings{Latency: "uniform:10ms-x"}, `"x"`},
		{Settings{Latency: "uniform:80ms-10ms"}, "lower bound"},
		{Settings{Latency: "zipf:1ms-2ms"}, "zipf"},
		{Settings{Errors: "429"}, `"429"`},
		{Settings{Errors: "200=0.1"}, "400 to 599"},
		{Settings{Errors: "429=1.5"}, "rate"},
		{Settings{Errors: "429=NaN"}, "rate"},
		{Settings{Errors: "429=0.1,429=0.2"}, "twice"},
		{Settings{Errors: "429=0.7,500=0.7"}, "more than 1"},
		{Settings{Errors: "429=0.1,"}, `""`},
		{Settings{Ceilings: "m"}, `"m"`},
		{Settings{Ceilings: "=5"}, `"=5"`},
		{Settings{Ceilings: "m=-1"}, `"m=-1"`},
		{Settings{Ceilings: "m=1,m=2"}, "twice"},
		{Settings{Ceilings: "*=1,*=2"}, "twice"},
		{Settings{Knee: "0"}, `knee: "0"`},
		{Settings{Knee: "m=0"}, `knee: "m=0"`},
		{Settings{RetryAfterSeconds: -1}, "retry_after_seconds"},
	} {
		if _, err := New(Config{Settings: test.settings}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error does not name %s: %v", test.settings, test.want, err)
		}
	}
	if _, err := New(Config{OutputTokens: -1}); err == nil || !strings.Contains(err.Error(), "output tokens") {
		t.Errorf("%v", err)
	}
	_, err := New(Config{Settings: Settings{Latency: "x", Errors: "x", Ceilings: "x", Knee: "x", RetryAfterSeconds: -1}})
	for _, named := range []string{"latency", "errors", "ceilings", "knee", "retry_after_seconds"} {
		if err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("error does not name %s: %v", named, err)
		}
	}
}

func TestAmountOf(t *testing.T) {
	t.Parallel()
	c, err := parseAmounts("ceilings", "gpt-4=5, a=b/c:1.0=7 ,*=9", 0)
	if err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]int64{"gpt-4": 5, "a=b/c:1.0": 7, "gpt-5": 9, "*": 9} {
		if got := c.of(model); got != want {
			t.Errorf("%s: %d, want %d", model, got, want)
		}
	}
}

func TestLatencies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text          string
		lowest, above time.Duration
		mean          time.Duration
	}{
		{"", 0, 1, 0},
		{"50ms", 50 * time.Millisecond, 50*time.Millisecond + 1, 50 * time.Millisecond},
		{"uniform:10ms-80ms", 10 * time.Millisecond, 80 * time.Millisecond, 45 * time.Millisecond},
		{"normal:50ms±10ms", 0, MaxLatency, 50 * time.Millisecond},
		{"normal:50ms+-10ms", 0, MaxLatency, 50 * time.Millisecond},
	} {
		l, err := parseLatency(test.text)
		if err != nil {
			t.Fatal(err)
		}
		const calls = 20_000
		first, sum := newDraw(1, "id"), time.Duration(0)
		for n := range calls {
			got := l.of(first.numbered(int64(n)))
			if got < test.lowest || got >= test.above {
				t.Fatalf("%q: %v", test.text, got)
			}
			sum += got
		}
		if mean := sum / calls; (mean - test.mean).Abs() > time.Millisecond {
			t.Errorf("%q: mean %v, want %v", test.text, mean, test.mean)
		}
	}
}

func TestErrorRatesAreMet(t *testing.T) {
	t.Parallel()
	rates, err := parseErrorRates("400=0.1, 429=0.2,500=0.3")
	if err != nil {
		t.Fatal(err)
	}
	const ids = 50_000
	seen := make(map[int]float64)
	for i := range ids {
		seen[rates.status(newDraw(uint64(i), "id"))] += 1.0 / ids
	}
	// The transient rates are shares of the calls that meet no final error.
	for status, want := range map[int]float64{400: 0.1, 429: 0.9 * 0.2, 500: 0.9 * 0.3, 200: 0.9 * 0.5} {
		if math.Abs(seen[status]-want) > 0.01 {
			t.Errorf("status %d: share %.3f, want %.3f", status, seen[status], want)
		}
	}
}

func TestSettingsNeverPanic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9:=.,*±+-]{0,30}`))
		settings := Settings{Latency: text.Draw(t, "latency"), Errors: text.Draw(t, "errors"), Ceilings: text.Draw(t, "ceilings")}
		parsed, err := settings.parse()
		if err != nil {
			return
		}
		d := newDraw(rapid.Uint64().Draw(t, "seed"), "id")
		if got := parsed.latency.of(d); got < 0 || got > MaxLatency {
			t.Fatalf("latency %v", got)
		}
		if got := parsed.errors.status(d); got != 200 && (got < 400 || got > 599) {
			t.Fatalf("status %d", got)
		}
	})
}

func TestModelsAreBounded(t *testing.T) {
	t.Parallel()
	m := newModels()
	full := make(map[string]*model)
	for i := range maxModels {
		full[strings.Repeat("x", i+1)] = new(model)
	}
	m.byName.Store(&full)
	if first := m.get("first"); first != m.get("second") || first == m.get("x") {
		t.Error("models beyond the limit are not gathered")
	}
}
