package slots

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAccountsNeverPassTheLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_000_000, 0)
		b := &bucket{history: []Entry{entryOf(rapid.IntRange(1, 12).Draw(t, "limit"), nil)}}
		var parties []*party
		for i := range rapid.IntRange(1, 4).Draw(t, "daemons") {
			parties = append(parties, newParty(b, &now, i, rapid.IntRange(1, 16).Draw(t, "capacity")))
		}
		party := func(t *rapid.T) *party { return rapid.SampledFrom(parties).Draw(t, "daemon") }
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for _, p := range parties {
					if held := b.entry().Holders[p.daemon].Held; p.inUse > held || p.allowed > held {
						t.Fatalf("daemon %s runs %d calls, allows %d and holds %d", p.daemon, p.inUse, p.allowed, held)
					}
				}
			},
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms")) * time.Millisecond)
			},
			"report": func(t *rapid.T) {
				party(t).Report(rapid.IntRange(0, 8).Draw(t, "ready"), rapid.Bool().Draw(t, "moreQueued"))
			},
			"acquire": func(t *rapid.T) {
				p := party(t)
				for range rapid.IntRange(1, 16).Draw(t, "calls") {
					if !p.Acquire() {
						break
					}
				}
			},
			"release": func(t *rapid.T) {
				p := party(t)
				for range rapid.IntRange(0, p.inUse).Draw(t, "calls") {
					p.Release()
				}
			},
			"limit":  func(t *rapid.T) { b.setLimit(rapid.IntRange(0, 12).Draw(t, "limit")) },
			"plan":   func(t *rapid.T) { party(t).begin() },
			"arrive": func(t *rapid.T) { party(t).arrive(t) },
			"answer": func(t *rapid.T) { party(t).answer() },
			"lose":   func(t *rapid.T) { party(t).lose() },
			"arrive late": func(t *rapid.T) {
				p := party(t)
				if len(p.stray) > 0 {
					p.stray[0](t)
					p.stray = p.stray[1:]
				}
			},
			"watch": func(t *rapid.T) {
				revision := rapid.IntRange(1, len(b.history)).Draw(t, "revision")
				party(t).observe(b.history[revision-1], uint64(revision))
			},
			"close": func(t *rapid.T) {
				if rapid.IntRange(0, 20).Draw(t, "dice") == 0 {
					party(t).close()
				}
			},
		})
	})
}

// cluster is parties that all have more work than slots.
type cluster struct {
	bucket  *bucket
	now     time.Time
	parties []*party
}

func newCluster(limit, n int) *cluster {
	c := &cluster{bucket: &bucket{history: []Entry{entryOf(limit, nil)}}, now: time.Unix(1_000_000, 0)}
	for i := range n {
		c.parties = append(c.parties, newParty(c.bucket, &c.now, i, 1000))
	}
	return c
}

// pass lets time pass in ticks. In each, every daemon hears the news, settles,
// and lets one of its calls end.
func (c *cluster) pass(t failer, ticks int, pump func(*party)) {
	t.Helper()
	for range ticks {
		c.now = c.now.Add(settleInterval)
		for _, p := range c.parties {
			p.observe(c.bucket.entry(), c.bucket.revision())
			p.settleNow(t)
			pump(p)
		}
	}
}

// busy ends a call, and begins as many as it may: there is always more work.
func busy(ready int) func(*party) {
	return func(p *party) {
		if p.inUse > 0 {
			p.Release()
		}
		for p.Acquire() {
		}
		p.Report(ready, true)
	}
}

func (c *cluster) inUse() []int {
	all := make([]int, 0, len(c.parties))
	for _, p := range c.parties {
		all = append(all, p.inUse)
	}
	return all
}

func sum(all []int) (n int) {
	for _, x := range all {
		n += x
	}
	return n
}

// A daemon begins its next call as soon as one ends, so it is never seen with
// fewer calls than it holds.
func TestAccountsObeyALowerLimitUnderLoad(t *testing.T) {
	t.Parallel()
	c := newCluster(8, 1)
	c.pass(t, 5, busy(3))
	if got := sum(c.inUse()); got != 8 {
		t.Fatalf("%d calls with a limit of 8", got)
	}
	c.bucket.setLimit(3)
	c.pass(t, 10, busy(3))
	if got := sum(c.inUse()); got != 3 {
		t.Errorf("%d calls with a limit of 3", got)
	}
}

func TestAccountsShareUnderLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ limit, daemons, ready int }{{9, 3, 1}, {9, 3, 5}, {10, 3, 1}, {1, 3, 1}, {2, 3, 1}, {100, 7, 20}} {
		c := newCluster(tt.limit, tt.daemons)
		// The first takes all before the others come.
		all := c.parties
		c.parties = all[:1]
		c.pass(t, 5, busy(tt.ready))
		c.parties = all
		c.pass(t, 2*tt.limit+20, busy(tt.ready))
		wants := make([]int, tt.daemons)
		for i := range wants {
			wants[i] = tt.limit
		}
		checkFair(t, tt.limit, wants, c.inUse())

		before := c.bucket.revision()
		c.pass(t, 100, busy(tt.ready))
		if n := c.bucket.revision() - before; n > 0 {
			t.Errorf("%+v: %d writes though nothing changed", tt, n)
		}
	}
}

// Others have work to share, but this daemon has nothing to do with its part:
// it is full with other models, or the stream is empty.
func TestAccountsDoNotPingPong(t *testing.T) {
	t.Parallel()
	c := newCluster(9, 2)
	idle := c.parties[1]
	pump := func(p *party) {
		if p != idle {
			busy(3)(p)
		}
	}
	c.pass(t, 20, pump)
	before := c.bucket.revision()
	c.pass(t, 100, pump) // 10 s
	if n := c.bucket.revision() - before; n > 40 {
		t.Errorf("%d writes in ten seconds though nothing changed", n)
	}
}

func TestAccountGivesBackWhatItLeavesUnused(t *testing.T) {
	t.Parallel()
	c := newCluster(9, 2)
	c.pass(t, 20, busy(3))
	quiet := c.parties[0]
	c.pass(t, 20, func(p *party) {
		if p != quiet {
			busy(3)(p)
			return
		}
		for p.inUse > 0 {
			p.Release()
		}
		p.Report(0, false)
	})
	if got := c.parties[1].inUse; got < 5 {
		t.Errorf("the busy daemon runs %d calls of 9 while the other has nothing to do", got)
	}
	c.pass(t, 30, func(p *party) {
		for p.inUse > 0 {
			p.Release()
		}
		p.Report(0, false)
	})
	if e := c.bucket.entry(); len(e.Holders) > 0 {
		t.Errorf("idle daemons keep %v", e.Holders)
	}
}

// A write whose answer is lost may have been applied: until the bucket was
// seen, the old number may be another's.
func TestAccountInDoubt(t *testing.T) {
	t.Parallel()
	c := newCluster(8, 1)
	c.pass(t, 5, busy(1))
	p := c.parties[0]
	for p.inUse > 0 {
		p.Release()
	}
	p.Report(0, false)
	c.now = c.now.Add(time.Minute)
	p.begin()
	c.now = c.now.Add(time.Minute)
	p.lose()
	p.begin()
	if !p.writing {
		t.Fatal("an idle daemon keeps its slots")
	}
	p.arrive(t)
	p.lose()
	p.Report(8, true)
	p.begin()
	if held := c.bucket.entry().Holders[p.daemon].Held; p.allowed > held {
		t.Errorf("allows %d calls and holds %d", p.allowed, held)
	}
	if !p.writing {
		t.Fatal("a write in doubt is not made again")
	}
	p.arrive(t)
	p.answer()
	p.settleNow(t)
	if p.allowed != 8 {
		t.Errorf("allows %d calls after the doubt is over, want 8", p.allowed)
	}
}

// A write that was on its way as the account closed is not forgotten.
func TestAccountIsNotSettledWhileAWriteIsOut(t *testing.T) {
	t.Parallel()
	c := newCluster(8, 1)
	p := c.parties[0]
	p.observe(c.bucket.entry(), c.bucket.revision())
	p.Report(3, true)
	p.begin()
	p.close()
	if p.settled() {
		t.Error("settled while a write is on its way")
	}
	p.arrive(t)
	p.settleNow(t)
	if !p.settled() || c.bucket.entry().Held() != 0 {
		t.Errorf("settled() = %v, %d slots held", p.settled(), c.bucket.entry().Held())
	}
}

// The entry was deleted by an operator, and is made anew by a dispatcher.
func TestAccountOfADeletedEntry(t *testing.T) {
	t.Parallel()
	c := newCluster(8, 1)
	c.pass(t, 5, busy(1))
	p := c.parties[0]
	p.observe(Entry{}, 100)
	p.begin()
	if p.writing {
		t.Errorf("writes %+v over a deleted entry", p.planned)
	}
	if p.Acquire() {
		t.Error("hands out slots of a deleted entry")
	}
}

func TestAccountIsWokenForSlots(t *testing.T) {
	t.Parallel()
	c := newCluster(2, 2)
	a, b := c.parties[0], c.parties[1]
	c.pass(t, 5, func(p *party) {
		if p == a {
			busy(1)(p)
		}
	})
	b.observe(c.bucket.entry(), c.bucket.revision())
	b.Report(1, true)
	if b.Acquire() {
		t.Fatal("a slot that another holds was handed out")
	}
	c.pass(t, 3, func(p *party) {
		if p == a && p.inUse > 0 {
			p.Release()
		}
	})
	b.woken = 0
	c.pass(t, 3, func(*party) {})
	if !b.Acquire() {
		t.Errorf("no slot for a daemon with work: %+v", c.bucket.entry())
	}
}

func TestAccountShortJudgesTheDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		mine, other Holder
		inUse       int
		ready       int
		moreQueued  bool
		want        bool
	}{
		"alone":                          {mine: Holder{8, 8}, inUse: 8, ready: 4, moreQueued: true},
		"enough":                         {mine: Holder{4, 4}, other: Holder{4, 4}, inUse: 4},
		"work waits":                     {mine: Holder{4, 8}, other: Holder{4, 8}, inUse: 4, ready: 1, want: true},
		"more queued behind full slots":  {mine: Holder{4, 8}, other: Holder{4, 8}, inUse: 4, moreQueued: true, want: true},
		"all slots are another's":        {other: Holder{8, 8}, want: true},
		"idle, and others leave slots":   {other: Holder{4, 4}},
		"only a dead daemon wants slots": {mine: Holder{4, 8}, other: Holder{0, 8}, inUse: 4, moreQueued: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			p := newParty(nil, &now, 0, 100)
			p.observe(entryOf(8, []Holder{tt.mine, tt.other}), 1)
			p.allowed, p.inUse, p.ready, p.moreQueued = tt.mine.Held, tt.inUse, tt.ready, tt.moreQueued
			if got := p.short(); got != tt.want {
				t.Errorf("short() = %v, want %v", got, tt.want)
			}
		})
	}
}
