package adaptive

import (
	"math"
	"time"
)

// restart begins a window anew.
func (c *Controller) restart() { c.window = level{} }

// ready reports whether the window is long enough to compare.
func (c *Controller) ready() bool {
	w := &c.window
	return w.measured() && w.seconds >= leastWindow.Seconds() && w.seconds >= w.span() &&
		w.sums.Calls >= max(leastCalls, float64(c.limit)/8)
}

// rest is between steps, with a window that is ready: it keeps what was measured,
// and may begin the next step.
func (c *Controller) rest() Decision {
	switch {
	case !c.settled: // what ends first is short
		c.settled = true
	case c.factor == 0 && c.drifts():
		c.base = level{} // the window is of both
		c.early = Cohort{}
		c.restart()
		return c.anew(Decision{Limit: c.limit})
	default:
		c.base = c.base.times(math.Exp(-c.window.seconds / baseMemory)).plus(c.window)
	}
	if c.here.congested == 0 {
		c.cut = cuts{}
	}
	return c.advance()
}

// drifts reports whether the time per work is another one than before, and if so has
// the next step look for the reason.
func (c *Controller) drifts() bool {
	log, deviation := change(c.base, c.window)
	if math.Abs(log) <= drift+3*deviation {
		return false
	}
	c.probeAt, c.downNext, c.refused, c.upper = c.now, log > 0, false, 0
	c.drifted = log
	return true
}

// advance begins the next step, if it is time for one.
func (c *Controller) advance() Decision {
	c.restart()
	switch next := c.next(); {
	case c.factor != 0 && next <= c.limit:
		c.hold()
	case c.factor != 0 && !c.dear():
		return c.step(next, Grows)
	case c.factor == 0 && c.now >= c.probeAt:
		return c.probe()
	}
	return Decision{Limit: c.limit}
}

// next is the level to try above this one while it climbs; this one: there is none.
func (c *Controller) next() int {
	next := max(c.limit+1, int(math.Round(c.factor*float64(c.limit))))
	if c.upper > 0 && next >= c.upper {
		enough := fine
		if c.refused {
			enough = fineRefused
		}
		if next = (c.limit + c.upper) / 2; float64(c.upper) <= enough*float64(c.limit) {
			next = c.limit
		}
	}
	return c.within(next)
}

// dear: the last refusals are not paid for yet.
func (c *Controller) dear() bool { return c.credit < 0 || c.now < c.pausedTo }

// hold ends the climb.
func (c *Controller) hold() {
	c.factor, c.lower = 0, 0
	c.probeAt = c.now + probeEvery
	if c.base.measured() {
		c.probeAt = c.now + max(probeEvery, time.Duration(probeSpans*c.base.span()*float64(time.Second)))
	}
	if c.refused { // the more often that was found, the rarer it is tried
		c.probeAt += (c.probeAt - c.now) * time.Duration(min(c.confirmed, maxConfirmed))
	}
}

// probe asks whether the level is still the best one.
func (c *Controller) probe() Decision {
	down := c.downNext && !c.refused
	factor := min(probeDown, max(math.Exp(-c.drifted), leastDown)) // where the queue would be gone
	c.drifted = 0
	if to := c.within(min(int(math.Round(factor*float64(c.limit))), c.limit-1)); down && to < c.limit {
		c.downNext = false
		return c.step(to, Probe)
	}
	if c.dear() {
		return Decision{Limit: c.limit}
	}
	factor = probeFactor
	if c.refused {
		factor = refusedFactor
	}
	c.downNext, c.upper = true, 0
	to := c.within(max(c.limit+1, int(math.Round(factor*float64(c.limit)))))
	if to == c.limit {
		c.hold()
		return Decision{Limit: c.limit}
	}
	return c.step(to, Probe)
}
