package dispatch

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// slow and quick have calls that differ by a factor of ten.
const slow, quick = 500 * time.Millisecond, 50 * time.Millisecond

// site with owners whose calls take as long as is said.
func newTimedSite(t *testing.T, claim int, calls map[string]time.Duration) *site {
	t.Helper()
	s := newSite(t, 100, claim)
	s.scheduler.times = new(callTimes)
	for owner, each := range calls {
		s.scheduler.times.add(owner, recentCalls, recentCalls*each)
	}
	return s
}

// Owners share the time of slots by their weights, whatever their calls take.
func TestSlotTimeIsShared(t *testing.T) {
	t.Parallel()
	for _, claim := range []int{1, 7, 100} {
		t.Run(fmt.Sprintf("claims of %d", claim), func(t *testing.T) {
			t.Parallel()
			calls := map[string]time.Duration{"slow": slow, "quick": quick, "heavy": slow, "new": 0}
			s := newTimedSite(t, claim, calls)
			s.scheduler.times.owners["new"] = nil
			weights := map[string]float64{"slow": 1, "quick": 1, "heavy": 3, "new": 1}
			for owner, w := range weights {
				s.add(owner, w, 1_000_000, 1000*time.Hour)
			}
			s.run(20 * time.Minute)
			calls["new"] = (slow + quick + slow) / 3 // nothing is known of them
			sum := 0.0
			for owner, n := range s.served {
				sum += float64(n) * calls[owner].Seconds()
			}
			for owner, w := range weights {
				got, want := float64(s.served[owner])*calls[owner].Seconds()/sum, w/6
				if math.Abs(got-want) > 0.03*want {
					t.Errorf("%s had %.4f of the slots' time, want %.4f", owner, got, want)
				}
			}
		})
	}
}

// Calls that fail at once are requests all the same.
func TestShortCallsGainNothing(t *testing.T) {
	t.Parallel()
	s := newTimedSite(t, 10, map[string]time.Duration{"failing": 100 * time.Microsecond, "quick": leastCost})
	s.add("failing", 1, 1_000_000, 1000*time.Hour)
	s.add("quick", 1, 1_000_000, 1000*time.Hour)
	s.run(time.Minute)
	if failing, other := s.served["failing"], s.served["quick"]; math.Abs(float64(failing-other)) > 0.03*float64(other) {
		t.Errorf("an owner whose calls fail at once got %d requests, another one %d", failing, other)
	}
}

// Who begins is given what frees, until they have their part of the slots. Who
// comes and goes gains nothing by it.
func TestWhoBeginsIsNext(t *testing.T) {
	t.Parallel()
	s := newTimedSite(t, 1, map[string]time.Duration{"slow": slow, "quick": quick})
	s.add("slow", 1, 1_000_000, 1000*time.Hour)
	s.scheduler.inUse = 8 * slow
	s.run(time.Minute)
	before := s.served["slow"]
	s.add("quick", 1, 40, 1000*time.Hour)
	s.run(time.Second)
	if got := s.served["slow"] - before; s.served["quick"] != 40 || got > 100-40 {
		t.Errorf("of 100 requests 40 are of one who begins: %d of them were served, and %d of another", s.served["quick"], got)
	}
	before, s.served["quick"] = s.served["slow"], 0
	for range 600 {
		s.add("quick", 1, 40, 1000*time.Hour)
		s.run(time.Second)
	}
	// As many as they had if they were always there: ten for each of the other.
	if got := float64(s.served["quick"]) / float64(s.served["slow"]-before); got > 10.5 {
		t.Errorf("who comes and goes got %.1f times as many requests, want 10 at most", got)
	}
}

// How long the next calls take is a matter of those who have work, and of how many
// requests each of them is given; not of who had work a moment ago.
func TestTimeOfTheNextCalls(t *testing.T) {
	t.Parallel()
	both := 2 / (1/slow.Seconds() + 1/quick.Seconds()) // a tenth as many slow ones
	for name, test := range map[string]struct {
		remaining map[string]int
		want      float64
	}{
		"nobody has work":                  {map[string]int{}, 0},
		"nothing is known of who has work": {map[string]int{"new": 5}, 0},
		"one whose calls are slow":         {map[string]int{"slow": 5}, slow.Seconds()},
		"one whose calls are quick":        {map[string]int{"quick": 5}, quick.Seconds()},
		"both":                             {map[string]int{"slow": 5, "quick": 5}, both},
	} {
		p := scheduler{times: new(callTimes)}
		for owner, each := range map[string]time.Duration{"slow": slow, "quick": quick} {
			p.times.add(owner, recentCalls, recentCalls*each)
		}
		var list []postgres.Cursor
		for owner, n := range test.remaining {
			list = append(list, postgres.Cursor{Batch: batch.ID{owner[0]}, Remaining: n, CreatedBy: owner, Weight: 1})
		}
		p.load(list, 0)
		if got := p.callTime().Seconds(); math.Abs(got-test.want) > 0.001 {
			t.Errorf("%s: the next calls take %.3f s, want %.3f", name, got, test.want)
		}
		if p.take(p.left); p.callTime() != 0 {
			t.Errorf("%s: what was given out counts still", name)
		}
	}
}

// Whether a batch will be late depends on how long its owner's calls take.
func TestSlowCallsAreUrgentSooner(t *testing.T) {
	t.Parallel()
	p := scheduler{times: new(callTimes)}
	list := func() (list []postgres.Cursor) {
		for i, owner := range []string{"slow", "quick"} {
			list = append(list, postgres.Cursor{
				Batch: batch.ID{byte(i + 1)}, Remaining: 1000, Left: time.Minute, ExpiresAt: time.Unix(1e9, 0), CreatedBy: owner, Weight: 1,
			})
		}
		return list
	}
	for owner, each := range map[string]time.Duration{"slow": slow, "quick": quick} {
		p.times.add(owner, recentCalls, recentCalls*each)
	}
	// Eleven requests in the time of two slow calls: ten for each of the slow one.
	p.load(list(), 100)
	for range 200 {
		p.take(11)
		p.load(list(), 100)
	}
	if len(p.urgent) != 1 || p.urgent[0].CreatedBy != "slow" {
		t.Errorf("%d batches are urgent, want that of the slow owner alone", len(p.urgent))
	}
}

func TestCallTimes(t *testing.T) {
	t.Parallel()
	var c callTimes
	if got := c.mean("alice"); got != 0 || c.meanOfAll() != 0 {
		t.Errorf("the mean of nothing is %v", got)
	}
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if got < want*9/10 || got > want*11/10 {
			t.Errorf("the mean of %s is %v, want %v", what, got, want)
		}
	}
	c.add("alice", 4, 4*slow)
	near("four calls", c.mean("alice"), slow)
	for range 50 {
		c.add("alice", 8, 8*quick)
	}
	near("many quick ones since", c.mean("alice"), quick)
	near("another owner's", c.mean("bob"), 0)
	c.add("bob", 0, time.Second) // began before this dispatcher did
	near("calls whose beginning is not known", c.mean("bob"), 0)
	// Calls that go on count as they are so far.
	c.add("bob", 8, 0)
	for range 4 {
		c.add("bob", 0, 8*250*time.Millisecond)
	}
	near("calls that go on for a second", c.mean("bob"), time.Second)
	for i := range 2 * maxOwners {
		c.add(fmt.Sprint("owner ", i), 1, quick)
	}
	if len(c.owners) > maxOwners {
		t.Errorf("%d owners are remembered", len(c.owners))
	}
	near("all calls", c.meanOfAll(), quick)
}

// Slow calls make the window small: what is published is decided.
func TestWindowOfSlowCalls(t *testing.T) {
	t.Parallel()
	const limit = 8
	for callTime, want := range map[time.Duration]int{
		0: minDepth, 10 * time.Minute: 1, slow: 2, 200 * time.Millisecond: minDepth, time.Millisecond: minDepth,
	} {
		w := window{callTime: callTime}
		if got := w.room(depth{unacked: limit}, limit, streams.MaxAckPending(limit), batch.RateLimit{}, time.Now()); got != want {
			t.Errorf("room is %d with calls of %v, want %d", got, callTime, want)
		}
		if got := w.room(depth{}, limit, streams.MaxAckPending(limit), batch.RateLimit{}, time.Now()); got < limit {
			t.Errorf("room is %d with calls of %v and free slots, want %d", got, callTime, limit)
		}
	}
}

func TestDispatcherHearsOfCallTimes(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d, _ := c.start()
	c.Begin(lines(1, testModel))
	body, err := streams.EncodeCallTimes([]streams.CallTime{
		{Model: "unknown", Owner: "alice", Calls: 1, Slots: quick}, {Model: testModel, Owner: "alice", Calls: 2, Slots: 2 * slow},
	})
	if err != nil {
		t.Fatal(err)
	}
	nc := testenv.Connect(t, c.Broker)
	until(t, "it knows how long the calls take", func() bool {
		for _, body := range [][]byte{[]byte("{"), body} { // again, until there is a lane
			if err := nc.Publish(streams.HintCallTimes, body); err != nil {
				t.Fatal(err)
			}
		}
		l := d.lane(testModel)
		return l != nil && l.times.mean("alice") == slow && l.times.meanOfAll() == slow
	})
	if testutil.ToFloat64(d.metrics.lostHints) == 0 {
		t.Error("hints that cannot be read are not counted")
	}
}

// A poll stands behind each hint; all lanes together poll little more often than
// a hundred do.
func TestLanesPollTheLessOftenTheMoreThereAre(t *testing.T) {
	t.Parallel()
	for lanes, want := range map[int]time.Duration{1: time.Second, lanesPerPoll - 1: time.Second, 1000: 8 * time.Second, 100_000: longestWait} {
		d := &Dispatcher{cfg: Config{ClaimInterval: time.Second}, lanes: make(map[batch.Model]*lane)}
		for i := range lanes {
			d.lanes[batch.Model(fmt.Sprint("model ", i))] = nil
		}
		if got := d.pollInterval(); got != want {
			t.Errorf("with %d lanes each polls every %v, want %v", lanes, got, want)
		}
	}
}
