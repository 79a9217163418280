package dispatch

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/streams"
)

const (
	// recentCalls is over how many calls a mean is taken, about.
	recentCalls = 32
	// maxOwners bounds the owners of whom a lane knows how long their calls take.
	maxOwners = 4096
)

// callTimes are how long the calls of each owner of a model keep their slots
// busy, as the consumers say. It is safe for concurrent use. The zero value knows
// of none; so does nil, which cannot be added to.
type callTimes struct {
	mu     sync.Mutex
	owners map[string]*meanTime
	all    meanTime
}

// meanTime is a moving mean: the time of slots by the calls that began. It is too
// low while the first long calls go on, and grows with them.
type meanTime struct{ seconds, calls float64 }

func (m *meanTime) add(calls int, slots time.Duration) {
	m.calls += float64(calls)
	m.seconds += slots.Seconds()
	if m.calls > recentCalls {
		m.seconds *= recentCalls / m.calls
		m.calls = recentCalls
	}
}

func (m *meanTime) mean() time.Duration {
	if m.calls == 0 {
		return 0
	}
	return max(time.Duration(m.seconds/m.calls*float64(time.Second)), 1)
}

func (c *callTimes) add(owner string, calls int, slots time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.owners[owner]
	if m == nil {
		if calls == 0 {
			return // of calls whose beginning is not known
		}
		if c.owners == nil {
			c.owners = make(map[string]*meanTime)
		}
		for other := range c.owners { // any one: it is learned again
			if len(c.owners) < maxOwners {
				break
			}
			delete(c.owners, other)
		}
		m = new(meanTime)
		c.owners[owner] = m
	}
	m.add(calls, slots)
	c.all.add(calls, slots)
}

// mean is that of an owner's calls; 0: it is not known.
func (c *callTimes) mean(owner string) time.Duration {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.owners[owner]; m != nil {
		return m.mean()
	}
	return 0
}

// usual is what to expect of an owner of whom nothing is known: the mean of those
// of whom something is; 0: there are none.
func (c *callTimes) usual(owners []*ownerQueue) time.Duration {
	var sum time.Duration
	n := 0
	for _, o := range owners {
		if mean := c.mean(o.name); mean > 0 {
			sum += mean
			n++
		}
	}
	return sum / time.Duration(max(n, 1))
}

// meanOfAll is that of all calls, of all owners; 0: it is not known.
func (c *callTimes) meanOfAll() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.mean()
}

// called takes what a consumer says about its calls. Every dispatcher hears it.
// One that is lost leaves the means as they were.
func (d *Dispatcher) called(msg *nats.Msg) {
	times, err := streams.ParseCallTimes(msg.Data)
	if err != nil {
		d.metrics.lostHints.Inc()
		d.cfg.Log.Warn("a hint was malformed and dropped", "subject", msg.Subject, "err", err)
		return
	}
	for _, t := range times {
		if l := d.lane(t.Model); l != nil {
			l.times.add(t.Owner, t.Calls, t.Slots)
		}
	}
}
