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
	share float64 // of calls that failed before the last; 0: not known
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

// congested cuts, unless what failed is what always fails.
func (c *Controller) congested(s Sample) (Decision, bool) {
	if c.from != 0 && c.limit > c.from { // a step up
		expected := c.tolerated * c.here.begun
		if c.here.congested <= 2*expected+3*math.Sqrt(expected) {
			return Decision{}, false
		}
		c.upper, c.refused = c.limit, true
		c.charge(s)
		c.recent = tally{}
		return c.end(c.from, s.Cause, true), true
	}
	expected := c.tolerated * c.recent.begun
	if c.recent.congested <= congestedPart*c.recent.begun+2*expected+3*math.Sqrt(expected) {
		return Decision{}, false
	}
	share := c.here.congested / max(c.here.begun, 1)
	known := c.here.congested >= knownFailures
	switch {
	case (c.cut.from > 0 || c.limit == c.least) && !known && (share <= independentPart || c.here.congested < 2):
		return Decision{}, false // too early to say whether the cut helped
	case share > independentPart:
	case known && c.limit == c.least, known && c.cut.share > 0 && share < sameShare*c.cut.share && c.cut.share < sameShare*share:
		c.tolerated, c.upper, c.refused, c.factor, c.base = share, 0, false, climbFactor, level{}
		return c.end(max(c.cut.from, c.limit), Independent, false), true
	}
	c.charge(s)
	if c.limit == c.least {
		return Decision{}, false
	}
	if c.cut.from == 0 {
		c.cut.from = c.limit
	}
	if c.cut.share = share; !known {
		c.cut.share = 0
	}
	c.upper, c.refused = c.limit, true
	if c.window.sums.Calls == 0 && c.cut.from != c.limit {
		c.upper = 0 // nothing succeeds any more, which says nothing about the level
	}
	c.factor, c.base = climbFactor, level{}
	return c.end(min(int(cutFactor*float64(c.limit)), c.limit-1), s.Cause, true), true
}

// charge sets what is to pass before the next step up.
func (c *Controller) charge(s Sample) {
	c.pausedTo = max(c.pausedTo, c.now+pauses*s.Pause)
}
