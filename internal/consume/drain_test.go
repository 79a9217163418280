package consume

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

// Calls in flight end, what was fetched ahead goes to others at once, and
// nothing is called twice. No lease runs out in this test.
func TestDrain(t *testing.T) {
	t.Parallel()
	const n, limit = 40, 3
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
	hold := make(gate)
	c.endpoint.set(hold.answer)
	first := c.start()
	id := c.Begin(lines(n, testModel))
	until(t, "all slots are used", func() bool { return c.endpoint.inFlight() == limit })
	first.takeNone()
	close(hold)
	first.wait()
	s := first.Stats()
	if s.Completed != limit || s.Failed+s.Retried+s.Fenced != 0 || s.InFlight != 0 {
		t.Errorf("stats are %+v, want the %d calls that were in flight to be completed", s, limit)
	}
	if calls := len(c.endpoint.all()); calls != limit {
		t.Errorf("%d calls, want none after the %d that were in flight", calls, limit)
	}
	if busy := c.Count(`SELECT count(*) FROM requests WHERE state = 'processing'`); busy != 0 {
		t.Errorf("%d requests are left processing", busy)
	}
	c.start()
	for customID, r := range c.AwaitEnd(id) {
		if calls := len(c.endpoint.of(customID)); calls != 1 || r.Attempts != 1 {
			t.Errorf("%s: %d calls and %d attempts, want one", customID, calls, r.Attempts)
		}
	}
}

// What has no slot is released too: another model waits for this consumer's
// only place while it drains.
func TestDrainGivesBackWhatIsStarted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	first := c.start(func(cfg *Config) { cfg.MaxInFlight = 1 })
	id := c.Begin([]batch.Template{line("a", testModel), line("b", otherModel)})
	until(t, "both are started", func() bool {
		return c.endpoint.inFlight() == 1 && c.Count(`SELECT count(*) FROM requests WHERE state = 'processing'`) == 2
	})
	first.takeNone()
	until(t, "the other is released", func() bool {
		return c.Count(`SELECT count(*) FROM requests WHERE state = 'pending' AND attempt = 0 AND due_at IS NULL`) == 1
	})
	close(hold)
	first.wait()
	c.start()
	for customID, r := range c.AwaitEnd(id) {
		if calls := len(c.endpoint.of(customID)); calls != 1 || r.Attempts != 1 || r.State != batch.Completed {
			t.Errorf("%s is %s after %d calls and %d attempts, want one", customID, r.State, calls, r.Attempts)
		}
	}
}

// A drain that begins while a start is being written releases what was started: it
// would else wait for the end of this daemon, and that for its calls.
func TestDrainBeginsDuringAStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	drain := make(chan context.CancelFunc, 1)
	first := c.start(func(cfg *Config) {
		cfg.Store = &interrupted{store: cfg.Store, after: func() { (<-drain)() }}
	})
	drain <- first.takeNone
	id := c.Begin(lines(1, testModel))
	first.wait()
	if n := c.Count(`SELECT count(*) FROM requests WHERE state = 'pending' AND attempt = 0 AND due_at IS NULL`); n != 1 {
		t.Errorf("%d requests were released, want the one that was started", n)
	}
	close(hold)
	c.start()
	for _, r := range c.AwaitEnd(id) {
		if r.Attempts != 1 || r.State != batch.Completed {
			t.Errorf("the request is %s after %d attempts", r.State, r.Attempts)
		}
	}
}

// Calls that are cut off, by the drain timeout or by a second signal, are made
// again by another consumer as if they had not been made: the same attempt,
// under the same idempotency key.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(r *running){
		"drain timeout": func(r *running) { r.takeNone() },
		"second signal": func(r *running) { r.takeNone(); r.doNone() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 3
			c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
			hold := make(gate)
			c.endpoint.set(hold.answer)
			retries := 0
			first := c.start(func(cfg *Config) {
				cfg.Retry.MaxRetries = &retries
				if name == "drain timeout" {
					cfg.DrainTimeout = 100 * time.Millisecond
				} else {
					cfg.DrainTimeout = never
				}
			})
			id := c.Begin(lines(10, testModel))
			until(t, "all slots are used", func() bool { return c.endpoint.inFlight() == limit })
			stop(first)
			first.wait()
			if s := first.Stats(); s.Completed+s.Failed+s.Retried+s.Fenced != 0 {
				t.Errorf("stats are %+v, want nothing to have come of the calls", s)
			}
			if kept := c.Count(`SELECT count(*) FROM requests WHERE state <> 'processing' AND attempt = 0 AND takeovers = 0`); kept < limit {
				t.Errorf("%d requests are released as they were, want at least %d", kept, limit)
			}
			close(hold)
			c.start(func(cfg *Config) { cfg.Retry.MaxRetries = &retries })
			twice := 0
			for customID, r := range c.AwaitEnd(id) {
				calls := c.endpoint.of(customID)
				if len(calls) == 2 {
					twice++
				}
				for _, call := range calls {
					if key := r.ID.String() + "-0"; call.attempt != 0 || call.header.Get("Idempotency-Key") != key {
						t.Errorf("%s: attempt %d, key %s; want the first attempt's", customID, call.attempt, call.header.Get("Idempotency-Key"))
					}
				}
				if r.State != batch.Completed || r.Attempts != 1 || len(calls) > 2 {
					t.Errorf("%s is %s after %d calls and %d attempts", customID, r.State, len(calls), r.Attempts)
				}
			}
			if twice != limit {
				t.Errorf("%d requests were called twice, want the %d that were cut off", twice, limit)
			}
		})
	}
}

// A consumer ends even if it cannot write what it knows.
func TestStopWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	const n = 12
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: n}))
	away := &faultyStore{store: c.Store, finish: func(int64) fault { return refused }}
	r := c.startTuned(func(r *Consumer) {
		r.finishes = newBatcher(1, 1, 0, r.flushFinishes) // so that few results fill it
	}, func(cfg *Config) { cfg.Store = away })
	// A call that ends while others are yet to begin may leave one of them behind
	// its own result, which waits.
	hold := make(gate)
	c.endpoint.set(hold.answer)
	c.Begin(lines(n, testModel))
	until(t, "all calls are in flight", func() bool { return c.endpoint.inFlight() == n })
	close(hold)
	until(t, "all calls were made", func() bool { return len(c.endpoint.all()) == n })
	until(t, "the last error is known", func() bool {
		lastErr := r.Stats().LastError
		return lastErr != nil && errors.Is(lastErr.Err, errAway)
	})
	r.takeNone()
	r.doNone()
	r.wait()
	if s := r.Stats(); s.Completed != 0 || s.InFlight != 0 {
		t.Errorf("stats are %+v, want nothing written and nothing in flight", s)
	}
}

// While results cannot be written no more is taken than can be kept in flight.
func TestPullingStopsWhileResultsWait(t *testing.T) {
	t.Parallel()
	c := &Consumer{
		cfg: Config{MaxInFlight: 10}, inflight: newInflight(), capacity: capacity{maxResults: 1},
	}
	for i := range 10 + unwritten {
		if room := c.room(); room != 10+unwritten-i {
			t.Fatalf("room is %d with %d in flight", room, i)
		}
		c.inflight.add(newTestTask(int32(i + 1)))
	}
	if room := c.room(); room != 0 {
		t.Errorf("room is %d with everything in flight", room)
	}
	c.inflight.add(newTestTask(1 << 30))
	if room := c.room(); room != 0 {
		t.Errorf("room is %d with more in flight than there should be", room)
	}
}

// Results that Postgres refuses for what they hold do not keep others from
// landing, and fail alone.
func TestResultThatCannotBeStored(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) { fmt.Fprint(w, testenv.ChatAnswer(c.customID)) })
	c.start(func(cfg *Config) { cfg.Caller = &corrupting{caller: cfg.Caller, customID: "r7"} })
	for customID, r := range c.AwaitEnd(c.Begin(lines(20, testModel))) {
		if customID == "r7" {
			if r.State != batch.Failed || r.Body != nil || r.StatusCode != 200 || r.Detail == "" || r.Attempts != 1 {
				t.Errorf("the result that cannot be stored is %+v, want it to fail without its content", r)
			}
			continue
		}
		if r.State != batch.Completed || string(r.Body) != testenv.ChatAnswer(customID) {
			t.Errorf("%s is %s with body %q", customID, r.State, r.Body)
		}
	}
}
