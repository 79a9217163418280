package consume

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/dispatch"
	"fusillade/internal/testenv"
)

func ratedBy(of map[batch.Model]batch.RateLimit) func(*dispatch.Config) {
	return func(cfg *dispatch.Config) { cfg.Rates = of }
}

// Three consumers share a model's limit of requests: their calls take as long as
// the limit makes them, and no slot is kept by those that wait.
func TestRateOfRequestsIsShared(t *testing.T) {
	t.Parallel()
	const perSecond, calls = 20, 100
	c := newCluster(t, ratedBy(map[batch.Model]batch.RateLimit{testModel: {Requests: perSecond * 60}}), limits(map[batch.Model]batch.Limit{testModel: 50}))
	running := []*running{c.start(), c.start(), c.start()}
	began := time.Now()
	results := c.AwaitEnd(c.Begin(lines(calls, testModel)))
	// Half a second's worth at once, and the moment before one is due.
	if least := (calls - perSecond) * time.Second / perSecond; time.Since(began) < least {
		t.Errorf("%d calls took %v, want %v at least", calls, time.Since(began), least)
	}
	for id, r := range results {
		if r.State != batch.Completed || r.Attempts != 1 {
			t.Errorf("request %s is %s after %d attempts", id, r.State, r.Attempts)
		}
	}
	until(t, "every call is counted as completed", func() bool { // after its result is stored
		made := int64(0)
		for _, r := range running {
			made += r.Stats().Completed
		}
		return made == calls
	})
	for i, r := range running {
		if r.Stats().Completed == calls {
			t.Errorf("consumer %d made all calls", i)
		}
	}
}

// Calls wait for tokens too, by what they are estimated to use and have used.
func TestRateOfTokens(t *testing.T) {
	t.Parallel()
	const perSecond, calls = 2000, 60
	c := newCluster(t, ratedBy(map[batch.Model]batch.RateLimit{testModel: {Tokens: perSecond * 60}}), limits(map[batch.Model]batch.Limit{testModel: 50}))
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, _ call) {
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":100,"completion_tokens":100}}`)
	})
	c.start()
	c.start()
	requests := lines(calls, testModel)
	for i := range requests {
		requests[i].Body = fmt.Appendf(nil, `{"model":%q,"max_tokens":100,"prompt":%q}`, testModel, strings.Repeat("four", 90))
	}
	began := time.Now()
	results := c.AwaitEnd(c.Begin(requests))
	// Each is 200 tokens, and is taken for no less.
	if least := (200*calls - perSecond) * time.Second / perSecond; time.Since(began) < least {
		t.Errorf("%d calls of 200 tokens took %v, want %v at least", calls, time.Since(began), least)
	}
	for id, r := range results {
		if r.State != batch.Completed || r.Attempts != 1 {
			t.Errorf("request %s is %s after %d attempts", id, r.State, r.Attempts)
		}
	}
}

// A batch with a key of its own waits for that key's rate, and not the others.
func TestRateOfOwnKeyKeepsNobodyElse(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(withKeys(c), func(cfg *Config) {
		cfg.Rates = RateLimits{OwnKeys: batch.RateLimit{Requests: 60}, Endpoints: map[string]batch.RateLimit{"http://elsewhere.example": {Requests: 1}}}
	})
	own := c.Begin(lines(8, testModel), ownKey)
	began := time.Now()
	c.AwaitEnd(c.Begin(lines(100, testModel)))
	if got := c.Batch(own); got.Status.Terminal() && time.Since(began) < 5*time.Second {
		t.Errorf("8 calls of a limit of one a second have ended after %v", time.Since(began))
	}
	c.AwaitEnd(own)
	if least := 6 * time.Second; time.Since(began) < least {
		t.Errorf("8 calls of a limit of one a second took %v, want %v at least", time.Since(began), least)
	}
}

// Owners share the tokens of a model that is short of them, and not the number of
// its calls: one with large prompts takes no more than one with small ones.
func TestOwnersShareTokens(t *testing.T) {
	t.Parallel()
	const small, large = 1000, 10_000
	c := newCluster(t, ratedBy(map[batch.Model]batch.RateLimit{testModel: {Tokens: 60_000 * 60}}), limits(map[batch.Model]batch.Limit{testModel: 50}))
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, call call) {
		tokens := small
		if strings.Contains(string(call.body), strconv.Itoa(large)) {
			tokens = large
		}
		_, _ = fmt.Fprintf(w, `{"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":0,"completion_tokens":%d}}`, tokens)
	})
	c.start()
	c.start()
	of := func(tokens int) []batch.Template {
		requests := lines(600, testModel)
		for i := range requests {
			requests[i].Body = fmt.Appendf(nil, `{"model":%q,"max_tokens":%d}`, testModel, tokens)
		}
		return requests
	}
	alice, bob := c.Begin(of(large), by("alice")), c.Begin(of(small), by("bob"))
	until(t, "half of bob's requests have completed", func() bool { return c.Batch(bob).Counts.Completed >= 300 })
	if n, m := c.Batch(alice).Counts.Completed, c.Batch(bob).Counts.Completed; n > m/2 || n < m/40 {
		t.Errorf("alice has had %d calls of %d tokens, and bob %d of %d", n, large, m, small)
	}
	for _, id := range []batch.ID{alice, bob} {
		if _, err := c.Store.CancelBatch(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
}

// An answer that says that nothing remains holds its credential until the reset,
// although it is a good one.
func TestExhaustedRateHolds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: 1}))
	var exhausted atomic.Bool
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, _ call) {
		w.Header().Set("X-Ratelimit-Remaining-Requests", "7")
		w.Header().Set("X-Ratelimit-Reset-Requests", "1h")
		if !exhausted.Swap(true) {
			w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
			w.Header().Set("X-Ratelimit-Reset-Requests", "2s")
		}
		_, _ = io.WriteString(w, testenv.ChatAnswer("ok"))
	})
	c.start()
	began := time.Now()
	for id, r := range c.AwaitEnd(c.Begin(lines(10, testModel))) {
		if r.State != batch.Completed || r.Attempts != 1 {
			t.Errorf("request %s is %s after %d attempts", id, r.State, r.Attempts)
		}
	}
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("ten calls took %v, and nothing remained for 2 s after the first", took)
	}
}
