package consume

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// cancel ends these requests as cancelled, or the whole batch, in one
// transaction. Nobody is told.
func (c *cluster) cancel(id batch.ID, lines ...int32) {
	c.T.Helper()
	var err error
	if lines == nil {
		_, err = c.Store.CancelBatch(c.T.Context(), id)
	} else {
		_, err = c.Store.CancelRequests(c.T.Context(), id, lines)
	}
	if err != nil {
		c.T.Fatal(err)
	}
}

// hint tells consumers of a cancel.
func (c *cluster) hint(id batch.ID, lines ...int32) {
	c.T.Helper()
	texts := make([]string, len(lines))
	for i, n := range lines {
		texts[i] = strconv.Itoa(int(n))
	}
	if err := c.Conn.Publish(streams.HintCancel(id), []byte(strings.Join(texts, "\n"))); err != nil {
		c.T.Fatal(err)
	}
}

func neverPoll(cfg *Config) { cfg.CancelPoll = never }

// wantNothingOf fails the test if anything came of what a consumer has
// aborted.
func (r *running) wantNothingOf(aborted, completed int64) {
	r.t.Helper()
	until(r.t, "nothing is in flight", func() bool { return r.inflight.count() == 0 })
	s := r.Stats()
	if s.Aborted != aborted || s.Completed != completed || s.Failed+s.Retried+s.Fenced != 0 || s.InFlight != 0 || s.LastError != nil {
		r.t.Errorf("stats are %+v, want %d aborted, %d completed and nothing else", s, aborted, completed)
	}
}

// Calls in flight and what waits for a slot are dropped, their slots serve
// others at once, and nothing is called or written any more.
func TestCancelledBatchIsAborted(t *testing.T) {
	t.Parallel()
	const n, limit = 40, 3
	for name, poll := range map[string]time.Duration{"by a hint": never, "by the poll": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
			hold := make(gate)
			c.endpoint.set(hold.answer)
			r := c.start(func(cfg *Config) { cfg.CancelPoll = poll })
			id := c.Begin(lines(n, testModel))
			until(t, "all slots are used", func() bool { return c.endpoint.inFlight() == limit })
			c.cancel(id)
			if poll == never {
				c.hint(id)
			}
			until(t, "the endpoint sees its clients gone", func() bool { return c.endpoint.inFlight() == 0 })
			until(t, "no message is left", func() bool { return c.Queued() == 0 })
			until(t, "nothing is in flight", func() bool { return r.inflight.count() == 0 })
			s := r.Stats()
			if s.Aborted < limit || s.Completed+s.Failed+s.Retried+s.Fenced != 0 || s.InFlight != 0 || s.LastError != nil {
				t.Errorf("stats are %+v, want at least %d aborted and nothing else", s, limit)
			}
			if calls := len(c.endpoint.all()); calls != limit {
				t.Errorf("%d calls, want none after the %d that were aborted", calls, limit)
			}
			close(hold)
			c.AwaitEnd(c.Begin(lines(2*limit, testModel)))
		})
	}
}

// Of one batch's requests only those that were cancelled are aborted.
func TestCancelledRequestsAreAborted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	r := c.start(neverPoll)
	id := c.Begin(lines(4, testModel))
	until(t, "all are called", func() bool { return c.endpoint.inFlight() == 4 })
	c.cancel(id, 1, 3)
	c.hint(id, 3, 1)
	until(t, "two clients are gone", func() bool { return c.endpoint.inFlight() == 2 })
	close(hold)
	for customID, got := range c.AwaitEnd(id) {
		want := batch.Completed
		if customID == "r0" || customID == "r2" {
			want = batch.Canceled
		}
		if got.State != want || len(c.endpoint.of(customID)) != 1 {
			t.Errorf("%s is %s after %d calls, want %s after one", customID, got.State, len(c.endpoint.of(customID)), want)
		}
	}
	r.wantNothingOf(2, 2)
}

// What waits for a slot is dropped before one is free: its place in flight is
// another's.
func TestCancelledWhileReady(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	r := c.start(neverPoll, func(cfg *Config) { cfg.MaxInFlight = 1 })
	ids := map[batch.Model]batch.ID{testModel: c.Begin(lines(1, testModel))}
	until(t, "the first is called", func() bool { return c.endpoint.inFlight() == 1 })
	ids[otherModel] = c.Begin(lines(1, otherModel))
	until(t, "the second is started", func() bool {
		return c.Count(`SELECT count(*) FROM requests WHERE state = 'processing'`) == 2
	})
	c.cancel(ids[otherModel])
	c.hint(ids[otherModel])
	until(t, "the second is dropped", func() bool { return r.Stats().Aborted == 1 && r.inflight.count() == 1 })
	close(hold)
	c.AwaitEnd(ids[testModel])
	r.wantNothingOf(1, 1)
	if calls := len(c.endpoint.all()); calls != 1 {
		t.Errorf("%d calls, want only the first", calls)
	}
}

// A hint about requests that live aborts nothing.
func TestHintWithoutACancel(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	r := c.start(neverPoll)
	lives, dies := c.Begin(lines(2, testModel)), c.Begin(lines(2, otherModel))
	until(t, "all are called", func() bool { return c.endpoint.inFlight() == 4 })
	c.hint(lives)
	c.hint(lives, 1, 2)
	c.cancel(dies)
	c.hint(dies)
	until(t, "those that were cancelled are aborted", func() bool { return r.Stats().Aborted == 2 })
	until(t, "only the others go on", func() bool { return c.endpoint.inFlight() == 2 })
	close(hold)
	c.AwaitEnd(lives)
	if calls := len(c.endpoint.all()); calls != 4 {
		t.Errorf("%d calls, want one of each request", calls)
	}
	r.wantNothingOf(2, 2)
}

// interrupted has something happen between the first start in Postgres and its answer,
// which is lost if the context ends meanwhile.
type interrupted struct {
	store
	after func()
	done  atomic.Bool
}

func (s *interrupted) Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error) {
	starts, err := s.store.Start(ctx, rules, deliveries)
	if err == nil && s.done.CompareAndSwap(false, true) {
		s.after()
		err = ctx.Err()
	}
	return starts, err
}

// The cancel comes between the start in Postgres and the consumer's hearing of
// it: no call is made.
func TestCancelledDuringTheStart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id := c.queue()
	var r *running
	began := make(chan struct{})
	r = c.start(neverPoll, func(cfg *Config) {
		cfg.Store = &interrupted{store: cfg.Store, after: func() {
			<-began
			c.cancel(id.Batch)
			c.hint(id.Batch)
			until(t, "the consumer has looked", func() bool {
				for _, t := range r.inflight.all() {
					return t.liveness() == postgres.Ended
				}
				return false
			})
		}}
	})
	close(began)
	until(t, "the message is acked", func() bool { return c.Queued() == 0 })
	r.wantNothingOf(1, 0)
	if calls := len(c.endpoint.all()); calls != 0 {
		t.Errorf("%d calls, want none", calls)
	}
}

// A request that another daemon has taken over is aborted here, and its
// message is left to the other.
func TestTakenOverIsAborted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	r := c.start(func(cfg *Config) { cfg.CancelPoll = 50 * time.Millisecond })
	c.Begin(lines(1, testModel))
	until(t, "it is called", func() bool { return c.endpoint.inFlight() == 1 })
	c.Exec(`UPDATE requests SET daemon_id = $1, delivery = delivery + 1`, [16]byte(c.ghost()))
	until(t, "the client is gone", func() bool { return c.endpoint.inFlight() == 0 })
	r.wantNothingOf(1, 0)
	if n := c.Queued(); n != 1 {
		t.Errorf("%d messages are left, want the other's", n)
	}
}

// Calls of a draining consumer are aborted too, which then ends.
func TestCancelDuringADrain(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	r := c.start(neverPoll)
	id := c.Begin(lines(2, testModel))
	until(t, "they are called", func() bool { return c.endpoint.inFlight() == 2 })
	r.takeNone()
	c.cancel(id)
	c.hint(id)
	r.wait()
	r.wantNothingOf(2, 0)
}

// An answer that comes after the cancel is not written, and neither holds the
// model back nor counts as trouble.
func TestAnswerAfterTheCancel(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	hold := make(gate)
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, _ call) {
		<-hold // also while the client is gone
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	r := c.start(neverPoll, func(cfg *Config) { cfg.Caller = unabortable{cfg.Caller} })
	id := c.Begin(lines(1, testModel))
	until(t, "it is called", func() bool { return c.endpoint.inFlight() == 1 })
	c.cancel(id)
	c.hint(id)
	until(t, "the consumer has looked", func() bool {
		for _, t := range r.inflight.all() {
			return t.liveness() == postgres.Ended
		}
		return false
	})
	close(hold)
	r.wantNothingOf(1, 0)
	c.endpoint.set(nil)
	c.AwaitEnd(c.Begin(lines(1, testModel)))
}

func TestLineNumbers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body string
		want int // lines; 0: the whole batch
	}{
		{"", 0}, {"1", 1}, {"1\n2", 2}, {"3\n3\n1\n", 2}, {"x", 0}, {"1\n9999999999", 0},
	} {
		if got := lineNumbers([]byte(test.body)); len(got) != test.want || (got == nil) != (test.want == 0) {
			t.Errorf("%q: %v, want %d lines", test.body, got, test.want)
		}
	}
}
