package adaptive

import "math"

// tally counts calls.
type tally struct{ begun, congested float64 }

func (t *tally) add(s Sample) {
	t.begun += float64(s.Begun)
	t.congested += float64(s.Congested)
}

// cuts are those that followed one another without a quiet window between.
type cuts struct {
	from  int     // the level before the first
	share float64 // of calls that failed before the first of which it is known; 0: of none
	at    int     // the level at which that was
}

// endOutage ends an outage: nothing succeeded for a while, and what was cut meanwhile
// says nothing of what the endpoint takes.
func (c *Controller) endOutage(s Sample) {
	switch {
	case s.Completed.Calls == 0:
		return
	case c.cut.from >= 2*c.limit && c.now-c.succeeded > outage:
		c.credit, c.upper, c.refused, c.factor, c.cut = max(c.credit, 0), 0, false, climbFactor, cuts{}
	}
	c.succeeded = c.now
}

// congested lowers the limit, unless what failed is what always fails.
func (c *Controller) congested(s Sample) (Decision, bool) {
	if c.from != 0 && c.limit > c.from { // a step up
		expected := c.tolerated * c.here.begun
		if c.here.congested <= max(2*expected+3*math.Sqrt(expected), c.strays(s)) {
			return Decision{}, false
		}
		c.upper, c.refused = c.limit, true
		if c.why == Probe {
			c.confirmed++
		}
		c.charge(s)
		c.recent = tally{}
		return c.end(c.from, s.Cause, true), true
	}
	expected := c.tolerated * c.recent.begun
	passed := congestedPart * c.recent.begun
	if s.Pause > 0 { // each of them costs a pause of all calls
		passed = 0
	}
	if c.recent.congested <= passed+2*expected+3*math.Sqrt(expected) {
		return Decision{}, false
	}
	share := c.here.congested / max(c.here.begun, 1)
	known := c.here.congested >= knownFailures
	switch {
	case (c.cut.from > 0 || c.limit == c.least) && !known && (share <= independentPart || c.here.congested < 2):
		return Decision{}, false // too early to say whether the cut helped
	case share > independentPart || !known:
	case c.limit == c.least, c.cut.share > 0 && c.limit <= int(muchLower*float64(c.cut.at)) && share < sameShare*c.cut.share && c.cut.share < sameShare*share:
		c.tolerated, c.upper, c.refused, c.factor, c.base = share, 0, false, climbFactor, level{}
		return c.end(max(c.cut.from, c.limit), Independent, false), true
	case c.cut.share == 0:
		c.cut.share, c.cut.at = share, c.limit
	}
	c.charge(s)
	if c.limit == c.least {
		return Decision{}, false
	}
	if c.cut.from == 0 {
		c.cut.from = c.limit
	}
	c.upper, c.refused = c.limit, true
	if c.window.sums.Calls == 0 && c.cut.from != c.limit {
		c.upper = 0 // nothing succeeds any more, which says nothing about the level
	}
	c.factor, c.base = climbFactor, level{}
	return c.end(c.lowered(share), s.Cause, true), true
}

// strays is how many calls may be refused of those of a step up without ending it:
// one of a level where calls come and go all the time, since an endpoint may count a
// call for a moment longer than the one who has its answer.
func (c *Controller) strays(s Sample) float64 {
	if s.Pause > 0 || c.limit < strayLimit {
		return 0
	}
	return max(1, congestedPart*c.here.begun)
}

// lowered is the limit after a cut. A call that was refused shows one slot too many,
// and is the only one to do so where an endpoint counts calls: its slot is kept for
// as long as a call takes. Where a large part is refused, capacity has changed.
func (c *Controller) lowered(share float64) int {
	if share > independentPart && c.here.congested >= knownFailures {
		return min(int(cutFactor*float64(c.limit)), c.limit-1)
	}
	excess := max(c.recent.congested, share*float64(c.limit), 1)
	return max(c.limit-int(math.Ceil(excess)), int(cutFactor*float64(c.limit)))
}

// charge sets what is to pass before the next step up.
func (c *Controller) charge(s Sample) {
	c.pausedTo = max(c.pausedTo, c.now+pauses*s.Pause)
}
