package consume

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

const thirdModel batch.Model = "mixtral"

func sealed(key string) postgres.SealedBatchKey {
	return postgres.SealedBatchKey{Key: []byte(key), Fingerprint: []byte(key)}
}

// ownKey gives a batch an API key of its own.
func ownKey(n *postgres.NewBatch) {
	n.EncryptKey = func(id batch.ID) (postgres.SealedBatchKey, error) { return sealed("sk-own-" + id.String()), nil }
}

func by(owner string) func(*postgres.NewBatch) {
	return func(n *postgres.NewBatch) { n.CreatedBy = owner }
}

// withKeys makes a consumer that can read batches' keys, and calls otherModel with
// another key than the other models.
func withKeys(c *cluster) func(*Config) {
	return func(cfg *Config) {
		cfg.BatchKey = func(_ context.Context, id batch.ID, _ int) (string, error) { return "sk-own-" + id.String(), nil }
		cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
			if m == otherModel {
				return upstream.Target{BaseURL: c.url, APIKey: "sk-other"}, true
			}
			return upstream.Target{BaseURL: c.url, APIKey: "sk-test"}, true
		}
	}
}

// throttle makes the endpoint ask for a pause whenever it is called with a key.
func (c *cluster) throttle(key string, status int, after string) {
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, _ call) {
		if r.Header.Get("Authorization") == "Bearer "+key {
			w.Header().Set("Retry-After", after)
			w.WriteHeader(status)
		}
	})
}

func (c *cluster) holds() map[hold.Key]hold.Hold {
	c.T.Helper()
	all, err := hold.List(c.T.Context(), c.bucket())
	if err != nil {
		c.T.Fatal(err)
	}
	return all
}

func (c *cluster) bucket() jetstream.KeyValue {
	c.T.Helper()
	kv, err := c.JS.KeyValue(c.T.Context(), streams.HoldsBucket)
	if err != nil {
		c.T.Fatal(err)
	}
	return kv
}

// A batch's own key that is throttled holds that batch, in every consumer: not
// one without a key of its own, and not another one's own key.
func TestOwnKeyHoldsItsBatchAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: 4}))
	c.start(withKeys(c))
	c.start(withKeys(c))
	var key string
	alice := c.Begin(lines(300, testModel), by("alice"), func(n *postgres.NewBatch) {
		n.EncryptKey = func(id batch.ID) (postgres.SealedBatchKey, error) {
			key = "sk-own-" + id.String()
			c.throttle(key, http.StatusTooManyRequests, "3600")
			return sealed(key), nil
		}
	})
	until(t, "alice's batch is held", func() bool { return len(c.holds()) == 1 })
	for _, h := range c.holds() {
		if h.Batch != alice || h.Status != 429 || !h.Of(testModel, alice, true, "alice") || time.Until(h.Until) > defaultMaxHold {
			t.Errorf("the hold is %+v", h)
		}
	}
	for _, settings := range [][]func(*postgres.NewBatch){{by("bob")}, {by("carol"), ownKey}, {by("alice")}} {
		for customID, r := range c.AwaitEnd(c.Begin(lines(100, testModel), settings...)) {
			if r.State != batch.Completed || r.Attempts != 1 {
				t.Errorf("%s is %s after %d attempts", customID, r.State, r.Attempts)
			}
		}
	}
	calls := 0
	for _, call := range c.endpoint.all() {
		if call.header.Get("Authorization") == "Bearer "+key {
			calls++
		}
	}
	if calls > 8+1 { // those in flight at the first answer
		t.Errorf("%d calls were made with alice's key", calls)
	}
	// What is held waits where it was: in Postgres, and it is not turned over.
	if n := c.Count(`SELECT count(*) FROM requests WHERE claim > 3`); n != 0 {
		t.Errorf("%d requests were claimed again and again", n)
	}
}

// A key that many use holds whatever is called with it, models that share it
// too; not a batch with its own, nor a model with another key.
func TestSharedKeyHoldsWhateverUsesIt(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 503, 529} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: 2, otherModel: 2, thirdModel: 2}))
			c.throttle("sk-test", status, "3600")
			c.start(withKeys(c))
			c.start(withKeys(c))
			bob := c.Begin(lines(200, testModel), by("bob"))
			until(t, "the key is held", func() bool { return len(c.holds()) == 1 })
			shares := c.Begin(lines(50, thirdModel), by("bob"))
			c.AwaitEnd(c.Begin(lines(100, otherModel), by("bob")))
			c.AwaitEnd(c.Begin(lines(100, testModel), by("alice"), ownKey))
			for _, id := range []batch.ID{bob, shares} {
				if n := c.Batch(id).Counts.Done(); n != 0 {
					t.Errorf("%d requests of a held key are done", n)
				}
			}
			if n := len(c.endpoint.callsOf(string(thirdModel))); n != 0 {
				t.Errorf("%d calls of the model that shares the key", n)
			}
			until(t, "the hold names the models", func() bool {
				for _, h := range c.holds() {
					return h.Of(testModel, bob, false, "bob") && h.Of(thirdModel, shares, false, "bob")
				}
				return false
			})
			c.endpoint.set(nil)
			if n, err := hold.Lift(t.Context(), c.bucket(), thirdModel, batch.ID{}); n != 1 || err != nil {
				t.Fatalf("%d holds lifted, %v", n, err)
			}
			// The requests that were asked to wait, or released for the hold, are due
			// at its end; the others go on at once.
			until(t, "calls go on", func() bool { return c.Batch(bob).Counts.Completed > 100 })
		})
	}
}

// callsOf are the calls of one model.
func (e *endpoint) callsOf(model string) (calls []call) {
	for _, c := range e.all() {
		if c.model == model {
			calls = append(calls, c)
		}
	}
	return calls
}

// By the endpoint's own record no call begins before the pause is over, and
// then they do, one at first.
func TestCallsGoOnAfterAHold(t *testing.T) {
	t.Parallel()
	const pause, limit = 3 * time.Second, 8 // long enough to be seen on a busy machine
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
	full, held := make(chan struct{}), make(gate)
	var asks atomic.Bool
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, call call) {
		if !asks.CompareAndSwap(false, true) {
			select { // so long that others would begin beside it
			case <-time.After(50 * time.Millisecond):
			case <-r.Context().Done():
			}
			held.answer(w, r, call)
			return
		}
		select { // the first one, once the others that may are on their way
		case <-full:
		case <-r.Context().Done():
		}
		w.Header().Set("Retry-After-Ms", fmt.Sprint(pause.Milliseconds()))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c.start()
	id := c.Begin(lines(100, testModel))
	until(t, "all slots are taken", func() bool { return c.endpoint.inFlight() == limit })
	close(full)
	until(t, "the key is held", func() bool { return len(c.holds()) == 1 })
	close(held)
	c.AwaitEnd(id)
	calls := c.endpoint.all()
	asked, later := calls[0], calls[limit:]
	for i, call := range later {
		if since := call.at.Sub(asked.at); since < pause {
			t.Errorf("call %d after the one that was asked to wait began %v after it", i+1, since)
		}
	}
	if n := later[1].beside; n > 0 {
		t.Errorf("the second call after the pause began beside %d others, want it to wait for the first one's end", n)
	}
	if calls := c.endpoint.of(asked.customID); len(calls) != 2 || calls[1].attempt != 1 {
		t.Errorf("%d calls of the request that was asked to wait, want 2", len(calls))
	}
}
