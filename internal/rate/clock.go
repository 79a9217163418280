package rate

import "time"

// clockPeriod is how long an observation of the broker's clock is good for, and
// as long again.
const clockPeriod = 30 * time.Second

// clock is a lower bound of the broker's clock, from times that are known to have
// passed there. What is seen of it last counts, so that it follows when it is set.
type clock struct {
	began         time.Time
	offset        time.Duration // from began, of this period
	last          time.Duration // of the one before
	period        time.Time     // when this period began
	asked         time.Time     // when the broker was last asked for the time
	known, former bool
}

// vague reports whether the bound may be far too low.
func (c *clock) vague(here time.Time) bool { return here.Sub(c.asked) >= askAgain }

// askAgain is how long what the broker said about its clock is good for.
const askAgain = 10 * time.Second

// saw takes over that the broker's clock has shown a time, at the latest at this
// moment here.
func (c *clock) saw(at, here time.Time) {
	if c.began.IsZero() {
		c.began, c.period = here, here
	}
	if here.Sub(c.period) >= clockPeriod {
		c.last, c.former = c.offset, c.known
		c.known, c.period = false, here
	}
	// From here, by its monotonic clock, to the broker's.
	offset := time.Duration(at.UnixNano()) - here.Sub(c.began)
	if !c.known || offset > c.offset {
		c.offset, c.known = offset, true
	}
}

// at is a time that the broker's clock has passed, at the given moment here.
func (c *clock) at(here time.Time) time.Time {
	offset := c.offset
	if c.former && (!c.known || c.last > offset) {
		offset = c.last
	}
	return time.Unix(0, int64(offset+here.Sub(c.began)))
}
