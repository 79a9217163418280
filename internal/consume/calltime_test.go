package consume

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

func TestSlotTimes(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	s := make(slotTimes)
	s.begin("alice", after(0))
	s.begin("bob", after(0))
	s.begin("alice", after(time.Second))
	s.end("alice", after(3*time.Second))
	s.end("alice", after(4*time.Second))
	s.end("carol", after(4*time.Second)) // never began
	s["bob"].count(after(5 * time.Second))
	if a, b := s["alice"], s["bob"]; a.busy != 6*time.Second || a.calls != 2 || a.inUse != 0 || b.busy != 5*time.Second || b.inUse != 1 || len(s) != 2 {
		t.Errorf("alice has %+v, bob %+v", a, b)
	}
}

// The dispatchers hear how long each owner's calls take, also of those that go on,
// and hear nothing when there are none.
func TestConsumerTellsCallTimes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	end := make(chan struct{})
	c.endpoint.set(func(_ http.ResponseWriter, _ *http.Request, call call) {
		if call.model == string(testModel) {
			<-end
		}
	})
	heard := make(chan *nats.Msg, 1000)
	sub, err := testenv.Connect(t, c.Broker).ChanSubscribe(streams.HintCallTimes, heard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Unsubscribe() })
	r := c.start()
	c.Begin(lines(1, testModel), func(n *postgres.NewBatch) { n.CreatedBy = "alice" })
	others := c.Begin(lines(20, otherModel), func(n *postgres.NewBatch) { n.CreatedBy = "bob" })
	got := make(map[string]streams.CallTime)
	hear := func() {
		for len(heard) > 0 {
			times, err := streams.ParseCallTimes((<-heard).Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range times {
				sum := got[one.Owner]
				got[one.Owner] = streams.CallTime{Model: one.Model, Calls: sum.Calls + one.Calls, Slots: sum.Slots + one.Slots}
			}
		}
	}
	c.AwaitEnd(others)
	until(t, "the time of a call that goes on is told", func() bool {
		hear()
		a, b := got["alice"], got["bob"]
		return a.Model == testModel && a.Calls == 1 && a.Slots > 2*callTimesInterval && b.Model == otherModel && b.Calls == 20 && b.Slots > 0
	})
	close(end)
	until(t, "nothing is kept of calls that have ended", func() bool {
		for _, p := range r.openPools() {
			p.mu.Lock()
			n := len(p.times)
			p.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
}
