package consume

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv/effort"
	"fusillade/internal/upstream"
)

// holding has a consumer place holds soon, and probe often.
func holding(cfg *Config) {
	cfg.HoldAfter, cfg.Probe, cfg.MaxProbe = 5, 200*time.Millisecond, time.Second
}

// refuse answers every call with a status while refusing is true.
func (c *cluster) refuse(status int, refusing func(*http.Request, call) bool) {
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, call call) {
		if refusing(r, call) {
			w.WriteHeader(status)
		}
	})
}

func (c *cluster) refusedHolds() (n int) {
	for _, h := range c.holds() {
		if h.Cause != "" {
			n++
		}
	}
	return n
}

// A wrong key holds the batch after a few calls of all consumers together, and is
// probed by one call at a time. Corrected, every request completes at its first
// attempt.
func TestWrongKeyKeepsTheBatchWhole(t *testing.T) {
	t.Parallel()
	for i, limit := range []int{1, 8} {
		for j, status := range []int{401, 402, 403, 404} {
			if effort.Raced && (i+j)%2 == 1 {
				continue
			}
			t.Run(fmt.Sprintf("%d, limit %d", status, limit), func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: batch.Limit(limit)}))
				var wrong atomic.Bool
				wrong.Store(true)
				c.refuse(status, func(*http.Request, call) bool { return wrong.Load() })
				consumers := []*running{c.start(holding), c.start(holding), c.start(holding)}
				id := c.Begin(lines(100, testModel))
				until(t, "it is held", func() bool { return c.refusedHolds() == 1 })
				until(t, "it was probed", func() bool {
					for _, h := range c.holds() {
						return h.Probes >= 3
					}
					return false
				})
				if n := len(c.endpoint.all()); n > len(consumers)*(5+limit)+10 {
					t.Errorf("%d calls of a wrong key", n)
				}
				if n := c.Batch(id).Counts.Done(); n != 0 {
					t.Errorf("%d requests are done", n)
				}
				wrong.Store(false)
				for customID, r := range c.AwaitEnd(id) {
					if r.State != batch.Completed || r.Attempts != 1 && status != 404 {
						t.Errorf("%s is %s after %d attempts", customID, r.State, r.Attempts)
					}
				}
				until(t, "the hold is lifted", func() bool { return c.refusedHolds() == 0 })
			})
		}
	}
}

// One request is enough, whichever consumer gets it; an operator lifts the hold;
// and consumers that begin anew know it.
func TestOneRequestIsHeldAndLifted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	slowly := func(cfg *Config) { holding(cfg); cfg.Probe, cfg.MaxProbe = time.Hour, time.Hour }
	c.refuse(401, func(*http.Request, call) bool { return true })
	first := c.start(slowly)
	c.start(slowly)
	id := c.Begin(lines(1, testModel))
	until(t, "it is held", func() bool { return c.refusedHolds() == 1 })
	first.doNone()
	<-first.done
	calls := len(c.endpoint.all())
	c.refuse(200, func(*http.Request, call) bool { return false })
	c.start(slowly)
	other := c.Begin(lines(5, testModel))
	if n := len(c.endpoint.all()); n != calls || c.Batch(other).Counts.Done() != 0 {
		t.Errorf("%d calls while it is held", n-calls)
	}
	if n, err := hold.Lift(t.Context(), c.bucket(), testModel, batch.ID{}); n != 1 || err != nil {
		t.Fatalf("%d holds lifted, %v", n, err)
	}
	c.AwaitEnd(other)
	for _, r := range c.AwaitEnd(id) {
		if r.State != batch.Completed || r.Attempts != 1 {
			t.Errorf("it is %s after %d attempts", r.State, r.Attempts)
		}
	}
}

// A batch's own wrong key holds that batch alone.
func TestWrongOwnKeyHoldsItsBatch(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	own := func(cfg *Config) { withKeys(c)(cfg); holding(cfg) }
	c.start(own)
	c.start(own)
	alice := c.Begin(lines(100, testModel), by("alice"), func(n *postgres.NewBatch) {
		n.EncryptKey = func(id batch.ID) (postgres.SealedBatchKey, error) {
			key := "sk-own-" + id.String()
			c.refuse(401, func(r *http.Request, _ call) bool { return r.Header.Get("Authorization") == "Bearer "+key })
			return sealed(key), nil
		}
	})
	until(t, "alice's batch is held", func() bool { return c.refusedHolds() == 1 })
	for _, settings := range [][]func(*postgres.NewBatch){{by("bob")}, {by("carol"), ownKey}} {
		for customID, r := range c.AwaitEnd(c.Begin(lines(100, testModel), settings...)) {
			if r.State != batch.Completed || r.Attempts != 1 {
				t.Errorf("%s is %s after %d attempts", customID, r.State, r.Attempts)
			}
		}
	}
	if n := c.Batch(alice).Counts.Done(); n != 0 {
		t.Errorf("%d of alice's requests are done", n)
	}
}

// What is wrong with prompts fails them, and holds nothing: bad requests however
// many they are, and a bare 403 among answers. An owner of whom all is forbidden
// is held alone.
func TestBadPromptsHoldNobody(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(holding)
	c.refuse(400, func(*http.Request, call) bool { return true })
	for customID, r := range c.AwaitEnd(c.Begin(lines(50, testModel))) {
		if r.State != batch.Failed || r.Attempts != 1 {
			t.Errorf("a bad request, %s, is %s after %d attempts", customID, r.State, r.Attempts)
		}
	}
	c.refuse(403, func(_ *http.Request, call call) bool { return call.customID[len(call.customID)-1] == '7' })
	failed := 0
	for _, r := range c.AwaitEnd(c.Begin(lines(50, testModel))) {
		if r.State == batch.Failed {
			failed++
		}
	}
	if failed != 5 || c.refusedHolds() != 0 {
		t.Errorf("%d fail and %d holds are there, want 5 and none", failed, c.refusedHolds())
	}
	c.refuse(403, func(_ *http.Request, call call) bool { return call.customID[0] == 'm' })
	mallory := make([]batch.Template, 40)
	for i := range mallory {
		mallory[i] = line(fmt.Sprintf("m%d", i), testModel)
	}
	c.Begin(mallory, by("mallory"))
	until(t, "mallory is held", func() bool { return c.refusedHolds() == 1 })
	for _, h := range c.holds() {
		if h.Owner != "mallory" {
			t.Errorf("the hold is %+v", h)
		}
	}
	for customID, r := range c.AwaitEnd(c.Begin(lines(50, testModel), by("bob"))) {
		if r.State != batch.Completed {
			t.Errorf("bob's %s is %s", customID, r.State)
		}
	}
}

// A model that has no endpoint waits for one, and no other model does.
func TestModelWithoutEndpointWaits(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var there atomic.Bool
	c.start(holding, func(cfg *Config) {
		cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
			return upstream.Target{BaseURL: c.url, APIKey: "sk-test"}, m == testModel || there.Load()
		}
	})
	id := c.Begin(lines(60, testModel, otherModel))
	until(t, "the other model is done, and it is held", func() bool { return c.Batch(id).Counts.Completed == 30 && c.refusedHolds() == 1 })
	for _, h := range c.holds() {
		if h.Cause != batch.CauseNoEndpoint || !h.Of(otherModel, id, false, "") || h.Of(testModel, id, false, "") {
			t.Errorf("the hold is %+v", h)
		}
	}
	there.Store(true)
	for customID, r := range c.AwaitEnd(id) {
		if r.State != batch.Completed || r.Attempts != 1 {
			t.Errorf("%s is %s after %d attempts", customID, r.State, r.Attempts)
		}
	}
}

// An endpoint that is gone for a while costs its requests no attempt.
func TestEndpointThatIsGone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	var there atomic.Bool
	where := func(cfg *Config) {
		cfg.Resolve = func(batch.Model) (upstream.Target, bool) {
			if there.Load() {
				return upstream.Target{BaseURL: c.url}, true
			}
			return upstream.Target{BaseURL: gone.URL}, true
		}
		cfg.Retry.MaxRetries = new(int)
	}
	c.start(holding, where)
	c.start(holding, where)
	id := c.Begin(lines(100, testModel))
	until(t, "it is held", func() bool { return c.refusedHolds() == 1 })
	there.Store(true)
	for customID, r := range c.AwaitEnd(id) {
		if r.State != batch.Completed || r.Attempts != 1 {
			t.Errorf("%s is %s after %d attempts", customID, r.State, r.Attempts)
		}
	}
}

// A consumer that alone reaches no endpoint does not hold up the others, and its
// requests are called by them.
func TestOneConsumerWithoutNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	sick := c.start(holding, func(cfg *Config) {
		cfg.Resolve = func(batch.Model) (upstream.Target, bool) {
			return upstream.Target{BaseURL: gone.URL, APIKey: "sk-test"}, true
		}
	})
	id := c.Begin(lines(50, testModel))
	until(t, "it is held", func() bool { return c.refusedHolds() == 1 })
	c.start(holding)
	for range 3 {
		for customID, r := range c.AwaitEnd(id) {
			if r.State != batch.Completed || r.Attempts != 1 {
				t.Errorf("%s is %s after %d attempts", customID, r.State, r.Attempts)
			}
		}
		id = c.Begin(lines(200, testModel))
	}
	c.AwaitEnd(id)
	if n := sick.Stats().Completed; n != 0 {
		t.Errorf("%d are completed by who reaches nothing", n)
	}
}
