package consume

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/dispatch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// queue begins a batch of one request and returns once its message waits, and
// no consumer runs.
func (c *cluster) queue() batch.RequestID {
	c.T.Helper()
	id := c.Begin(lines(1, testModel))
	until(c.T, "the message waits", func() bool { return c.Queued() == 1 })
	return batch.RequestID{Batch: id, Line: 1}
}

// ghost is a daemon with a record and no process.
func (c *cluster) ghost() batch.DaemonID {
	c.T.Helper()
	id := postgres.NewDaemonID()
	err := c.Store.RegisterDaemon(c.T.Context(), postgres.Daemon{ID: id, Role: "consumer", Hostname: "ghost", PID: 1, Version: "test"})
	if err != nil {
		c.T.Fatal(err)
	}
	c.Exec(`UPDATE daemons SET status = 'running', last_heartbeat = now() + interval '1 h' WHERE id = $1`, [16]byte(id))
	return id
}

// haunt makes the one request look as if the daemon had started it.
func (c *cluster) haunt(d batch.DaemonID, takeovers int) {
	c.T.Helper()
	c.Exec(`UPDATE requests SET state = 'processing', daemon_id = $1, started_at = now(), takeovers = $2`, [16]byte(d), takeovers)
}

func (c *cluster) end(d batch.DaemonID) {
	c.T.Helper()
	if err := c.Store.EndDaemon(c.T.Context(), d); err != nil {
		c.T.Fatal(err)
	}
}

// delivered is how often messages of the model were given to a consumer.
func (c *cluster) delivered() uint64 {
	c.T.Helper()
	consumer, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(testModel))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return 0
	}
	if err != nil {
		c.T.Fatal(err)
	}
	return consumer.CachedInfo().Delivered.Consumer
}

// message is one as dispatchers publish it.
func message(id batch.RequestID, claim string) *nats.Msg {
	msg := nats.NewMsg(streams.Shard(0).RequestSubject(testModel, id))
	msg.Header.Set(streams.HeaderClaim, claim)
	return msg
}

func (c *cluster) publish(msg *nats.Msg) {
	c.T.Helper()
	if _, err := c.JS.PublishMsg(c.T.Context(), msg); err != nil {
		c.T.Fatal(err)
	}
}

// A message of a request that has ended, or of another claim, or that is none
// of ours, goes away without a call.
func TestUselessMessages(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	r := c.start()
	id := c.Begin(lines(1, testModel))
	c.AwaitEnd(id)
	until(t, "the stream is empty", func() bool { return c.Queued() == 0 })

	ended := batch.RequestID{Batch: id, Line: 1}
	for name, msg := range map[string]*nats.Msg{
		"a second copy":     message(ended, "1"),
		"another claim":     message(ended, "2"),
		"no such line":      message(batch.RequestID{Batch: id, Line: 99}, "1"),
		"no such batch":     message(batch.RequestID{Batch: batch.ID{1}, Line: 1}, "1"),
		"no claim":          message(ended, ""),
		"claim is no count": message(ended, "0"),
		"malformed subject": nats.NewMsg(message(ended, "1").Subject + "x"),
	} {
		c.publish(msg)
		until(t, name+" is gone", func() bool { return c.Queued() == 0 })
	}
	if calls := len(c.endpoint.all()); calls != 1 {
		t.Errorf("%d calls, want none but the first", calls)
	}
	if s := r.Stats(); s.Completed != 1 || s.Failed+s.Fenced+s.Retried != 0 {
		t.Errorf("stats are %+v, want 1 completed and nothing else", s)
	}
}

// A request that waits for a new claim is not called on an old message.
func TestMessageOfAnUnclaimedRequest(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id := c.queue()
	c.Exec(`UPDATE requests SET state = 'pending', due_at = now() + interval '1 h'`)
	c.start()
	until(t, "the message is gone", func() bool { return c.Queued() == 0 })
	if calls := len(c.endpoint.all()); calls != 0 {
		t.Errorf("%d calls were made on a message of a claim that was given up", calls)
	}
	c.Exec(`UPDATE requests SET due_at = now()`)
	c.AwaitEnd(id.Batch)
	if calls := len(c.endpoint.all()); calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

// While its daemon lives, a request is not called by another; once it is dead,
// it is.
func TestTakeoverOnlyFromTheDead(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id, owner := c.queue(), c.ghost()
	c.haunt(owner, 0)
	c.start()
	c.start()
	until(t, "the message was offered again", func() bool { return c.delivered() >= 3 })
	if calls := len(c.endpoint.all()); calls != 0 {
		t.Fatalf("%d calls of a request that a living daemon works on", calls)
	}
	c.end(owner)
	if got := c.AwaitEnd(id.Batch)["r0"]; got.State != batch.Completed || got.Attempts != 1 {
		t.Errorf("the request is %s after %d attempts, want completed by one", got.State, got.Attempts)
	}
	if calls := len(c.endpoint.all()); calls != 1 {
		t.Errorf("%d calls, want 1", calls)
	}
}

// A daemon whose process was frozen for longer than its heartbeat is good for
// begins no call: its slots and requests may be others' by now.
func TestLapsedDaemonMakesNoCall(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	id := c.queue()
	var lapsed atomic.Bool
	lapsed.Store(true)
	c.start(func(cfg *Config) { cfg.Lapsed = lapsed.Load })
	until(t, "the request was released, again and again", func() bool { return c.delivered() >= 3 })
	if calls := len(c.endpoint.all()); calls != 0 {
		t.Errorf("%d calls of a daemon that has lapsed", calls)
	}
	lapsed.Store(false)
	if got := c.AwaitEnd(id.Batch)["r0"]; got.State != batch.Completed || got.Attempts != 1 {
		t.Errorf("the request is %s after %d attempts, want completed by one", got.State, got.Attempts)
	}
}

func TestPoisoned(t *testing.T) {
	t.Parallel()
	const most = 3
	for takeovers, want := range map[int]batch.State{most - 2: batch.Completed, most - 1: batch.Failed, most + 5: batch.Failed} {
		t.Run(fmt.Sprintf("%d consumers died", takeovers+1), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			id, owner := c.queue(), c.ghost()
			c.haunt(owner, takeovers)
			c.end(owner)
			r := c.start(func(cfg *Config) { cfg.MaxTakeovers = most })
			got, calls := c.AwaitEnd(id.Batch)["r0"], len(c.endpoint.all())
			if got.State != want {
				t.Fatalf("the request is %s, want %s", got.State, want)
			}
			if want == batch.Completed {
				return
			}
			if got.Reason != batch.Poisoned || calls != 0 || got.Attempts != 0 || got.Detail == "" {
				t.Errorf("the result is %+v after %d calls, want poisoned and no call", got, calls)
			}
			until(t, "the stream is empty", func() bool { return c.Queued() == 0 })
			if s := r.Stats(); s.Failed != 1 {
				t.Errorf("stats are %+v, want 1 failed", s)
			}
		})
	}
}

// A message that comes before its backoff is over is sent back for the rest.
func TestEarlyMessageWaits(t *testing.T) {
	t.Parallel()
	const backoff = 2 * time.Second
	c := newCluster(t)
	id := c.queue()
	c.Exec(`UPDATE requests SET state = 'pending', attempt = 1, not_before = now() + $1::interval`, backoff)
	earliest := time.Now().Add(backoff - 100*time.Millisecond) // as much may be missing, by the start's rule
	c.start()
	c.AwaitEnd(id.Batch)
	calls := c.endpoint.all()
	if len(calls) != 1 || calls[0].attempt != 1 || calls[0].at.Before(earliest) {
		t.Errorf("calls are %+v, want one of attempt 1, not before %v", calls, earliest)
	}
}

// The lease runs out while the call goes on: it is not made a second time, by
// this consumer or another.
func TestLeaseRunsOutDuringTheCall(t *testing.T) {
	t.Parallel()
	for _, consumers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d consumers", consumers), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, func(cfg *dispatch.Config) { cfg.Lease = 300 * time.Millisecond })
			hold := make(gate)
			c.endpoint.set(hold.answer)
			for range consumers {
				c.start(func(cfg *Config) { cfg.Lease = never }) // it renews none
			}
			id := c.Begin(lines(1, testModel))
			until(t, "the message was offered again", func() bool { return c.delivered() >= 3 })
			close(hold)
			c.AwaitEnd(id)
			until(t, "the stream is empty", func() bool { return c.Queued() == 0 })
			if calls := len(c.endpoint.all()); calls != 1 {
				t.Errorf("%d calls, want 1", calls)
			}
		})
	}
}

// A lease is renewed again and again while the call goes on.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var renewals atomic.Int64
	acks, err := c.Conn.Subscribe("$JS.ACK."+streams.Stream+".>", func(msg *nats.Msg) {
		if string(msg.Data) == "+WPI" { // work in progress, in JetStream's protocol
			renewals.Add(1)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = acks.Unsubscribe() })
	hold := make(gate)
	c.endpoint.set(hold.answer)
	c.start(func(cfg *Config) { cfg.Lease = 300 * time.Millisecond })
	id := c.Begin(lines(1, testModel))
	until(t, "the call is made", func() bool { return c.endpoint.inFlight() == 1 })
	before := renewals.Load()
	until(t, "the lease was renewed three times", func() bool { return renewals.Load() >= before+3 })
	close(hold)
	c.AwaitEnd(id)
}

// A call that outlives the processing timeout is cut off and counts as an
// attempt.
func TestProcessingTimeout(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) { cfg.ProcessingTimeout = 3 * time.Second })
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, c call) {
		if c.nth == 0 {
			<-r.Context().Done()
		}
	})
	got, calls := c.AwaitEnd(c.Begin(lines(1, testModel)))["r0"], c.endpoint.all()
	if got.State != batch.Completed || got.Attempts != 2 || len(calls) != 2 || calls[1].attempt != 1 {
		t.Errorf("the request is %s after %d attempts and %d calls, want completed by the second", got.State, got.Attempts, len(calls))
	}
}

// The database fails each way at each write: nothing is lost, and nothing is
// called twice.
func TestDatabaseFaults(t *testing.T) {
	t.Parallel()
	const n = 24
	some := func(f fault) func(int64) fault {
		return func(n int64) fault {
			if n%3 != 2 {
				return f
			}
			return none
		}
	}
	for name, set := range map[string]func(*faultyStore){
		"start refused":  func(s *faultyStore) { s.start = some(refused) },
		"start unknown":  func(s *faultyStore) { s.start = some(unknown) },
		"finish refused": func(s *faultyStore) { s.finish = some(refused) },
		"finish unknown": func(s *faultyStore) { s.finish = some(unknown) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// What is fenced is acked once its lease has run out.
			c := newCluster(t, func(cfg *dispatch.Config) { cfg.Lease = time.Second })
			c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
				if c.customID == "r7" && c.attempt < 2 {
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			store := &faultyStore{store: c.Store}
			set(store)
			c.start(func(cfg *Config) { cfg.Store, cfg.Lease = store, time.Second })
			for customID, r := range c.AwaitEnd(c.Begin(lines(n, testModel, otherModel))) {
				want := 1
				if customID == "r7" {
					want = 3
				}
				if calls := len(c.endpoint.of(customID)); calls != want || r.Attempts != want || r.State != batch.Completed {
					t.Errorf("%s is %s after %d calls and %d attempts, want %d", customID, r.State, calls, r.Attempts, want)
				}
			}
			until(t, "the stream is empty", func() bool { return c.Queued() == 0 })
		})
	}
}
