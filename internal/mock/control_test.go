package mock

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// waitFor returns once the condition holds; go test's own timeout is the
// limit.
func waitFor(t testing.TB, condition func() bool) {
	t.Helper()
	for !condition() {
		if t.Context().Err() != nil {
			t.Fatal("test ended while waiting")
		}
		runtime.Gosched()
	}
}

func TestCeiling(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Settings: Settings{Latency: "hang", Ceilings: "m=2,*=0", RetryAfterSeconds: 1}})
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if status := f.chat(t, "m", "held"); status != 200 {
				t.Errorf("held call: status %d", status)
			}
		})
	}
	waitFor(t, func() bool { return f.Stats().InFlight == 2 })
	for _, model := range []string{"m", "other"} {
		status, header, _ := f.must(t, "POST", "/v1/chat/completions", "beyond", `{"model":"`+model+`"}`)
		if status != http.StatusTooManyRequests || header.Get("Retry-After") != "1" {
			t.Errorf("%s: status %d, header %v", model, status, header)
		}
	}
	if err := f.Configure(Settings{}); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	want := map[string]ModelStats{
		"m":     {Counts: Counts{Calls: 3, CeilingViolations: 1, ByStatus: map[int]int64{200: 2, 429: 1}}, PeakInFlight: 3},
		"other": {Counts: Counts{Calls: 1, CeilingViolations: 1, ByStatus: map[int]int64{429: 1}}, PeakInFlight: 1},
	}
	if diff := cmp.Diff(want, f.Stats().Models); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

// A client that starts a call when it has the answer to the one before must
// never be seen with more calls than it has.
func TestCeilingSeesNoMoreCallsThanThereAre(t *testing.T) {
	t.Parallel()
	const clients = 4
	f := newFixture(t, Config{Settings: Settings{Ceilings: "m=4"}, OutputTokens: 5000})
	var calls sync.WaitGroup
	for range clients {
		calls.Go(func() {
			for range 200 {
				if status := f.chat(t, "m", ""); status != 200 {
					t.Errorf("status %d", status)
				}
			}
		})
	}
	calls.Wait()
	if got := f.Stats().Models["m"]; got.Calls != clients*200 || got.InFlight != 0 || got.CeilingViolations != 0 || got.PeakInFlight > clients {
		t.Errorf("%+v", got)
	}
}

// A call that was refused while another one's client had gone, and was not seen to be
// yet, was no violation: one for each client that went, and shortly after only.
func TestDepartureExplainsAViolation(t *testing.T) {
	t.Parallel()
	m := new(model)
	expect := func(what string, want int64) {
		t.Helper()
		if got := m.stats().CeilingViolations; got != want {
			t.Errorf("%s: %d violations, want %d", what, got, want)
		}
	}
	for range 6 {
		m.begin()
	}
	m.violate()
	m.violate()
	expect("two calls beyond the ceiling", 2)
	m.abort()
	expect("the server cut one off", 2)
	m.depart()
	expect("one client had gone", 1)
	m.answer(http.StatusOK)
	expect("one call is answered", 1)
	m.beyond[0] = m.beyond[0].Add(-2 * departure)
	m.depart()
	expect("another one goes later", 1)
	m.violate()
	m.reset()
	m.depart()
	expect("after a reset", 0)
}

func TestAbortedCallsAreCounted(t *testing.T) {
	t.Parallel()
	for _, latency := range []string{"hang", "1h"} {
		f := newFixture(t, Config{Settings: Settings{Latency: latency}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, _, _, err := f.do(ctx, "POST", "/v1/chat/completions", "id", `{"model":"m"}`)
			ended <- err
		}()
		waitFor(t, func() bool { return f.Stats().InFlight == 1 })
		cancel()
		if err := <-ended; err == nil {
			t.Errorf("%s: the call was answered", latency)
		}
		waitFor(t, func() bool { return f.Stats().Aborted == 1 })
		if got := f.Stats(); got.Calls != 1 || got.InFlight != 0 || len(got.ByStatus) != 0 {
			t.Errorf("%s: %+v", latency, got)
		}
	}
}

func TestStatsAndReset(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Settings: Settings{Errors: "500=1"}})
	f.chat(t, "a", "x")
	f.chat(t, "a", "x")
	f.chat(t, "b", "y")
	_, _, body := f.must(t, "GET", "/stats?custom_ids=1", "", "")
	want := Stats{
		Counts: Counts{Calls: 3, ByStatus: map[int]int64{500: 3}},
		Models: map[string]ModelStats{
			"a": {Counts: Counts{Calls: 2, ByStatus: map[int]int64{500: 2}}, PeakInFlight: 1},
			"b": {Counts: Counts{Calls: 1, ByStatus: map[int]int64{500: 1}}, PeakInFlight: 1},
		},
		CustomIDs: map[string]int64{"x": 2, "y": 1},
	}
	if diff := cmp.Diff(want, decode[Stats](t, body)); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	if status, _, _ := f.must(t, "POST", "/stats/reset", "", ""); status != http.StatusNoContent {
		t.Errorf("reset: status %d", status)
	}
	_, _, body = f.must(t, "GET", "/stats?custom_ids=1", "", "")
	empty := Stats{Counts: Counts{ByStatus: map[int]int64{}}, Models: map[string]ModelStats{}}
	if diff := cmp.Diff(empty, decode[Stats](t, body)); diff != "" {
		t.Errorf("after reset (-want +got):\n%s", diff)
	}
}

func TestResetKeepsCallsInFlight(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Settings: Settings{Latency: "hang"}})
	var calls sync.WaitGroup
	calls.Go(func() { f.chat(t, "m", "id") })
	waitFor(t, func() bool { return f.Stats().InFlight == 1 })
	f.ResetStats()
	if got := f.Stats().Models["m"]; got.Calls != 1 || got.InFlight != 1 || got.PeakInFlight != 1 {
		t.Errorf("%+v", got)
	}
	if err := f.Configure(Settings{}); err != nil {
		t.Error(err)
	}
	calls.Wait()
}

func TestConfig(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Settings: Settings{Latency: "1ms", Ceilings: "m=1"}})
	status, _, body := f.must(t, "PATCH", "/config", "", `{"errors":"500=1","retry_after_seconds":2}`)
	want := Settings{Latency: "1ms", Ceilings: "m=1", Errors: "500=1", RetryAfterSeconds: 2}
	if got := decode[Settings](t, body); status != 200 || got != want || f.Settings() != want {
		t.Errorf("%d: %+v", status, got)
	}
	if status := f.chat(t, "m", "id"); status != 500 {
		t.Errorf("status %d", status)
	}
	for body, named := range map[string]string{
		`{"latency":"soon"}`: "soon",
		`{"latencies":"1s"}`: "latencies",
		`{} {}`:              "more than one",
		`{`:                  "settings",
		`{"latency":"2ms","retry_after_seconds":-1}`: "retry_after_seconds",
	} {
		status, _, answer := f.must(t, "PATCH", "/config", "", body)
		if status != 400 || !strings.Contains(string(answer), named) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	_, _, body = f.must(t, "GET", "/config", "", "")
	if got := decode[Settings](t, body); got != want {
		t.Errorf("a refused change changed something: %+v", got)
	}
}
