package adaptive

import (
	"math"
	"time"
)

// State is what another controller needs to go on.
type State struct {
	// Good is the level to which it returns if the step that it is in does not pay;
	// 0: it is in none.
	Good int `json:"good,omitempty"`
	// Tolerated is the share of calls that fail between steps.
	Tolerated float64 `json:"tolerated,omitempty"`
}

// Controller decides about one limit. It is not safe for concurrent use.
type Controller struct {
	least, most int
	limit       int
	now         time.Duration // the sum of all samples

	base     level         // measured at the level before the step, or at this one
	window   level         // measured since the limit last changed, or the window before ended
	settled  bool          // the window is not the first one after a change
	early    Cohort        // of the step, since the last Anew
	earlier  Sums          // of earlier cohorts of the step
	cohort   time.Duration // as last decided
	cohortAt time.Duration // when that was

	// A step, from a level to a target; from is 0 if there is none.
	from, target int
	why          Cause
	factor       float64 // of the next step up while it climbs; 0: it holds
	upper        int     // the lowest level that is bad; 0: none is known
	refused      bool    // because calls were refused there
	confirmed    int     // probes in a row that were refused
	lower        int     // the highest level that is too low, while it steps down; 0: none is known
	downNext     bool    // the next probe is downwards
	drifted      float64 // by how much the time per work grew by itself, as a logarithm
	probeAt      time.Duration
	unused       int

	credit    float64       // for refusals
	pausedTo  time.Duration // no step up before
	succeeded time.Duration // when a call completed last

	here      tally // since the limit last changed
	recent    tally // of the last seconds
	tolerated float64
	cut       cuts
}

// New returns a controller that begins at a limit, between least and most.
func New(least, most, limit int) *Controller {
	c := &Controller{least: least, most: most, factor: climbFactor, credit: firstCredit, cohort: firstCohort}
	c.limit = c.within(limit)
	return c
}

// Restore returns a controller that goes on where another one was. Its first
// decision ends the step that the other one had begun.
func Restore(least, most, limit int, s State) *Controller {
	c := New(least, most, limit)
	c.factor, c.tolerated = 0, s.Tolerated
	if s.Good > 0 && c.within(s.Good) != c.limit {
		c.from, c.target = c.within(s.Good), c.limit
	}
	return c
}

// State returns what Restore takes.
func (c *Controller) State() State { return State{Good: c.from, Tolerated: c.tolerated} }

// Limit is what was decided last.
func (c *Controller) Limit() int { return c.limit }

// Bound changes the bounds. A limit that is outside of them moves with the next
// sample.
func (c *Controller) Bound(least, most int) { c.least, c.most = least, most }

func (c *Controller) within(n int) int { return min(max(n, c.least), c.most) }

// Step takes a sample and decides.
func (c *Controller) Step(s Sample) Decision {
	c.now += s.Elapsed
	c.count(s)
	if within := c.within(c.limit); within != c.limit {
		c.from, c.upper = 0, 0
		return c.move(within, Probe, false)
	}
	if c.from != 0 && !c.base.measured() { // of another controller
		return c.end(c.from, ProbeOver, false)
	}
	if s.Congested > 0 {
		if d, decided := c.congested(s); decided {
			return d
		}
	}
	if c.from != 0 && c.limit < c.target {
		return c.move(c.ramp(), c.why, false)
	}
	if use := s.InFlight / (float64(c.limit) * s.Elapsed.Seconds()); use < 0.5 || use < 0.85 && !s.Full {
		return c.unfilled()
	}
	c.unused = 0
	switch {
	case c.from != 0 && c.whole():
		return c.compare()
	case c.from == 0 && !c.base.measured():
		if c.whole() {
			return c.begin()
		}
	case c.from == 0 && c.ready():
		return c.rest()
	}
	return Decision{Limit: c.limit}
}

// count adds a sample to what was seen before.
func (c *Controller) count(s Sample) {
	c.early = c.early.Plus(s.Early)
	c.window = c.window.plus(level{s.Completed, s.InFlight, s.Elapsed.Seconds()})
	c.credit = min(c.credit+(1.0/creditCalls+2*c.tolerated)*float64(s.Begun)-float64(s.Congested), maxCredit)
	c.endOutage(s)
	c.here.add(s)
	memory := max(2, 2*c.latency())
	kept := math.Exp(-s.Elapsed.Seconds() / memory)
	c.recent = tally{c.recent.begun * kept, c.recent.congested * kept}
	c.recent.add(s)
	if c.from == 0 && s.Begun > 0 {
		// What is more than a few is tolerated only if it is found not to have to do
		// with the limit.
		share := min(c.recent.congested/c.recent.begun, max(c.tolerated, learnedPart))
		c.tolerated += (share - c.tolerated) * min(s.Elapsed.Seconds()/toleranceTime, 1)
	}
}

// latency is the time of a call, in seconds, as far as is known.
func (c *Controller) latency() float64 {
	if c.base.measured() {
		return c.base.sums.latency()
	}
	return 0
}
