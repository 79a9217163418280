package consume

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/dispatch"
	manner "fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

// escalating sends requests for testModel to otherModel in the last hour.
func escalating(cfg *dispatch.Config) {
	cfg.Escalations = map[batch.Model]batch.Escalation{testModel: {Model: otherModel, Threshold: time.Hour}}
}

func window(d time.Duration) func(*postgres.NewBatch) {
	return func(n *postgres.NewBatch) { n.CompletionWindow = d }
}

// told waits until consumers know the escalation.
func (c *cluster) told() {
	c.T.Helper()
	until(c.T, "consumers know the escalation", func() bool { return c.slots(testModel).EscalationModel == otherModel })
}

// The endpoint is called with its own name for the model, and otherwise with the
// line byte for byte; the result is the model's that the file names.
func TestOtherNameUpstream(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) {
		resolve := cfg.Resolve
		cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
			to, ok := resolve(m)
			to.Options = &manner.Options{Auth: manner.APIKey, Model: "their/name"}
			return to, ok
		}
	})
	requests := []batch.Template{line("a", testModel)}
	requests[0].Body = []byte(" {\"z\":1e400,\"model\" :\t\"x\",\n\"messages\":[{\"model\":\"y\"}]} ")
	results := c.AwaitEnd(c.Begin(requests, window(time.Hour)))
	calls := c.endpoint.of("a")
	if len(calls) != 1 || results["a"].State != batch.Completed {
		t.Fatalf("%d calls, the result is %+v", len(calls), results["a"])
	}
	if diff := cmp.Diff(" {\"z\":1e400,\"model\" :\t\"their/name\",\n\"messages\":[{\"model\":\"y\"}]} ", string(calls[0].body)); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if got := calls[0].header; got.Get("Api-Key") != "sk-test" || got.Get("Authorization") != "" {
		t.Errorf("headers are %v", got)
	}
	if n := c.Count(`SELECT count(*) FROM results WHERE routed_model = $1`, string(testModel)); n != 1 {
		t.Errorf("%d results are of the model, want 1", n)
	}
}

// The call names the escalation model, and is the line's in every other byte.
func TestEscalatedCall(t *testing.T) {
	t.Parallel()
	c := newCluster(t, escalating)
	c.start(func(cfg *Config) {
		cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
			return upstream.Target{BaseURL: c.url + map[batch.Model]string{otherModel: "/other"}[m], APIKey: "sk-test"}, true
		}
	})
	requests := []batch.Template{line("a", testModel), line("b", otherModel), line("c", testModel)}
	requests[2].Body = []byte(" { \"z\":1e400, \"model\" :\t\"x\",\n\"messages\":[{\"model\":\"y\"}], \"\\u006dodel\":\"z\"}  ")
	id := c.Begin(requests, window(30*time.Minute))
	results := c.AwaitEnd(id)
	for customID, want := range map[string]string{
		"a": `{"model": "gpt-4.mini",  "prompt":"a"}`,
		"b": `{"model": "gpt-4.mini",  "prompt":"b"}`,
		"c": " { \"z\":1e400, \"model\" :\t\"gpt-4.mini\",\n\"messages\":[{\"model\":\"y\"}], \"\\u006dodel\":\"gpt-4.mini\"}  ",
	} {
		calls := c.endpoint.of(customID)
		if len(calls) != 1 || results[customID].State != batch.Completed {
			t.Fatalf("%s: %d calls, the result is %+v", customID, len(calls), results[customID])
		}
		if diff := cmp.Diff(want, string(calls[0].body)); diff != "" {
			t.Errorf("%s: body (-want +got):\n%s", customID, diff)
		}
		if got := calls[0].header.Get("Authorization"); got != "Bearer sk-test" {
			t.Errorf("%s: authorization is %q", customID, got)
		}
	}
	if n := c.Count(`SELECT count(*) FROM results WHERE routed_model = $1`, string(otherModel)); n != 3 {
		t.Errorf("%d results are of the escalation model, want 3", n)
	}
}

// A request that cannot be sent with another model fails, and its body is in
// no error.
func TestEscalatedBodyIsNoJSON(t *testing.T) {
	t.Parallel()
	c := newCluster(t, escalating)
	c.start()
	request := line("a", testModel)
	request.Body = []byte(`{"model":"x", secret`)
	got := c.AwaitEnd(c.Begin([]batch.Template{request}, window(time.Minute)))["a"]
	if got.State != batch.Failed || got.Reason != batch.BuilderError || got.Detail != "the body is not JSON (byte 13)" {
		t.Errorf("result is %+v", got)
	}
}

// A request that crosses the threshold while it waits for a retry, or in the
// stream, is claimed anew and goes to the escalation model, as the same
// attempt.
func TestEscalationAfterTheClaim(t *testing.T) {
	t.Parallel()
	soon := func(c *cluster) error {
		_, err := c.DB.Exec(c.T.Context(), `UPDATE batches SET expires_at = now() + interval '59 min'`)
		return err
	}
	for name, inBackoff := range map[string]bool{"in a backoff": true, "in the stream": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, escalating)
			if inBackoff {
				c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, call call) {
					if call.nth > 0 {
						return
					}
					w.WriteHeader(http.StatusInternalServerError)
					if err := soon(c); err != nil {
						t.Error(err)
					}
				})
				c.start()
			}
			id := c.Begin(lines(1, testModel))
			if !inBackoff {
				until(t, "the message waits", func() bool { return c.Queued() == 1 })
				if err := soon(c); err != nil {
					t.Fatal(err)
				}
				c.told()
				c.start()
			}
			c.AwaitEnd(id)
			var got []string
			for _, call := range c.endpoint.all() {
				got = append(got, fmt.Sprintf("%s %d", call.model, call.attempt))
			}
			want := []string{"gpt-4.mini 0"}
			if inBackoff {
				want = []string{string(testModel) + " 0", "gpt-4.mini 1"}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// releasingStore fails to release claims, twice.
type releasingStore struct {
	store
	fault fault
	calls atomic.Int64
}

func (s *releasingStore) ReleaseClaims(ctx context.Context, requests []postgres.ClaimedRequest, delay time.Duration) (int, error) {
	f := func(n int64) fault {
		if n < 2 {
			return s.fault
		}
		return none
	}
	return faulty(f, &s.calls, func() (int, error) { return s.store.ReleaseClaims(ctx, requests, delay) })
}

func TestEscalationWhilePostgresFails(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"not done": refused, "done, and the answer lost": unknown} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, escalating)
			c.queue()
			c.told()
			c.Exec(`UPDATE batches SET expires_at = now() + interval '59 min'`)
			s := &releasingStore{store: c.Store, fault: f}
			c.start(func(cfg *Config) { cfg.Store = s })
			until(t, "the batch has ended", func() bool { return c.Count(`SELECT count(*) FROM batches WHERE status = 'completed'`) == 1 })
			if calls := c.endpoint.all(); len(calls) != 1 || calls[0].model != string(otherModel) {
				t.Errorf("%d calls, want one of the escalation model", len(calls))
			}
			if s.calls.Load() < 1 {
				t.Error("nothing was released")
			}
		})
	}
}

// A pause lets calls in flight end, releases what is fetched ahead, and
// begins no call in any consumer until the model is resumed.
func TestPause(t *testing.T) {
	t.Parallel()
	const limit, free, n = 4, 150, 400
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	var begun atomic.Int64
	c.endpoint.set(func(_ http.ResponseWriter, _ *http.Request, call call) {
		if call.model == string(testModel) && begun.Add(1) > free {
			<-gate
		}
	})
	consumers := []*running{c.start(), c.start()}
	id := c.Begin(lines(n, testModel))
	inFlight := func() (sum int) {
		for _, r := range consumers {
			sum += r.Stats().InFlight
		}
		return sum
	}
	until(t, "all slots are used", func() bool { return inFlight() == limit && begun.Load() == free+limit })
	inHand := func() (sum int) {
		for _, r := range consumers {
			sum += r.inflight.count()
		}
		return sum
	}
	pause := func(yes bool) {
		t.Helper()
		if err := c.Store.ChangeModel(t.Context(), testModel, postgres.ModelChange{Paused: &yes}); err != nil {
			t.Fatal(err)
		}
		if err := c.Conn.Publish(streams.HintWork, nil); err != nil {
			t.Fatal(err)
		}
	}
	pause(true)
	until(t, "each consumer knows", func() bool {
		for _, r := range consumers {
			for _, l := range r.openPools() {
				if !l.account.Standing().Paused {
					return false
				}
			}
		}
		return true
	})
	until(t, "what is fetched ahead is released", func() bool { return inHand() == limit })
	if n := c.Count(`SELECT count(*) FROM requests WHERE state = 'processing'`); n != limit {
		t.Errorf("%d requests are processing, want the %d that are called", n, limit)
	}
	open()
	until(t, "calls in flight have ended", func() bool { return inHand() == 0 })
	late := c.start() // one that knows nothing else of it
	until(t, "it knows too", func() bool {
		lanes := late.openPools()
		return len(lanes) == 1 && lanes[0].account.Standing().Paused
	})
	c.AwaitEnd(c.Begin(lines(40, otherModel)))
	if calls := begun.Load(); calls != free+limit {
		t.Errorf("%d calls, want none after the %d that had begun", calls, free+limit)
	}
	if done := c.Batch(id).Counts.Completed; done != free+limit {
		t.Errorf("%d requests have completed, want the %d that had begun", done, free+limit)
	}
	pause(false)
	if results := c.AwaitEnd(id); len(results) != n {
		t.Errorf("%d results, want %d", len(results), n)
	}
	if calls := begun.Load(); calls != n {
		t.Errorf("%d calls, want %d", calls, n)
	}
}

func (c *cluster) slots(m batch.Model) slots.Entry {
	c.T.Helper()
	kv, err := c.JS.KeyValue(c.T.Context(), streams.SlotsBucket)
	if err != nil {
		c.T.Fatal(err)
	}
	entries, err := slots.List(c.T.Context(), kv)
	if err != nil {
		c.T.Fatal(err)
	}
	return entries[m]
}
