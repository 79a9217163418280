package adaptive

import (
	"math"
	"time"
)

// unfilled is a sample in which the limit was not used.
func (c *Controller) unfilled() Decision {
	c.unused++
	if c.unused >= unusedSamples && c.from != 0 {
		return c.end(c.from, Unused, false)
	}
	if c.from == 0 || c.unused >= unusedSamples {
		c.restart()
	}
	return Decision{Limit: c.limit}
}

// whole reports whether the cohort of a step is over: nearly all of its calls have
// ended, or have had the time of several.
func (c *Controller) whole() bool {
	since := (c.now - c.cohortAt - c.cohort).Seconds()
	if since <= 0 {
		return false
	}
	if float64(c.early.Ended) >= wholePart*float64(c.early.Begun) {
		return true
	}
	latency := c.latency()
	if c.early.Completed.Calls > 0 {
		latency = max(latency, c.early.Completed.latency())
	}
	return latency > 0 && since > patience*latency
}

// begin measures the level from which it goes on.
func (c *Controller) begin() Decision {
	w := level{c.earlier.Plus(c.early.Completed), c.window.inFlight, c.window.seconds}
	if w.sums.Calls < leastCalls {
		return c.again(w)
	}
	c.base, c.settled = w, true
	return c.advance()
}

// compare decides about a step.
func (c *Controller) compare() Decision {
	w := level{c.earlier.Plus(c.early.Completed), c.window.inFlight, c.window.seconds}
	if w.sums.Calls < leastCalls {
		return c.again(w)
	}
	g, deviation := gain(c.base, w, c.from, c.limit)
	up := c.limit > c.from
	waited := w.seconds >= max(patience*w.span(), patientWindow.Seconds())
	switch {
	case up && g-deviation >= partialGain, up && waited && g >= partialGain:
		c.factor = carefulFactor
		if ratio := float64(c.limit) / float64(c.from); g >= fullGain {
			c.factor = min(ratio*ratio, climbFactor)
		}
		was := c.base.sums
		c.from, c.base, c.refused = 0, w, c.refused && c.upper > 0
		if c.why == Probe {
			c.confirmed = 0
		}
		if g >= fullGain { // calls take what they took: all of them say how long that is
			c.base.sums = c.base.sums.Plus(was.Times(poolKept))
		}
		return c.advance()
	case up && (waited || g+2*deviation < partialGain):
		if next := c.within(c.limit + 1); g+deviation >= partialGain && c.factor != 0 && next > c.limit && next < 2*c.from && next <= smallLimit && (c.upper == 0 || next < c.upper) {
			c.target = next
			return c.move(next, Grows, false)
		}
		c.upper, c.refused = c.limit, false
		return c.end(c.from, NoGain, false)
	case up:
		return c.again(w)
	case g-deviation > little, waited && g > little: // what it stepped down from was better
		c.lower = c.limit
		if next := c.below(c.from); next < c.from {
			c.target = next
			return c.move(next, ProbeOver, false)
		}
		return c.end(c.from, ProbeOver, false)
	case !waited && g+deviation > little:
		return c.again(w)
	}
	c.from, c.base = 0, w
	if next := c.below(c.limit); g < little && next < c.limit {
		return c.step(next, NoGain)
	}
	c.hold()
	c.restart()
	return Decision{Limit: c.limit, Cause: NoGain}
}

// below is the level to try below one that is not needed; the same: there is none.
func (c *Controller) below(level int) int {
	next := min(int(math.Round(downFactor*float64(level))), level-1)
	if c.lower > 0 && next <= c.lower {
		if next = (level + c.lower) / 2; float64(level) <= coarse*float64(c.lower) || next == c.lower {
			return level
		}
	}
	return c.within(next)
}

// again measures another cohort of the step, beside what was measured of it.
func (c *Controller) again(w level) Decision {
	c.earlier, c.early = w.sums, Cohort{}
	return c.anew(Decision{Limit: c.limit})
}

// anew makes a decision one that begins a cohort.
func (c *Controller) anew(d Decision) Decision {
	c.cohort, c.cohortAt = firstCohort, c.now
	if latency := c.latency(); latency > 0 {
		c.cohort = max(leastCohort, time.Duration(cohortPart*latency*float64(time.Second)))
	}
	d.Anew, d.Cohort = true, c.cohort
	return d
}

// step goes to another level, whose calls are then compared with those of this one.
func (c *Controller) step(to int, cause Cause) Decision {
	c.from, c.target, c.why = c.limit, to, cause
	if to > c.limit {
		to = c.ramp()
	}
	return c.move(to, cause, false)
}

// ramp is the next limit on the way up to the target.
func (c *Controller) ramp() int {
	return min(c.target, c.limit+max(int(math.Ceil(rampPart*float64(c.limit))), 1))
}

// end ends a step, or is a cut: the limit is this now. While it climbs it goes on
// from there, if there is anything left to try.
func (c *Controller) end(limit int, cause Cause, cut bool) Decision {
	c.from, c.unused = 0, 0
	d := c.move(c.within(limit), cause, cut)
	if c.factor == 0 || c.next() <= c.limit {
		c.hold()
	}
	return d
}

func (c *Controller) move(limit int, cause Cause, cut bool) Decision {
	c.limit, c.here, c.early, c.earlier, c.settled = limit, tally{}, Cohort{}, Sums{}, false
	c.restart()
	return c.anew(Decision{Limit: limit, Cause: cause, Cut: cut})
}
