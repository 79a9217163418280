package hold

import "time"

const (
	// rampWidth calls at once end a ramp, and rampTime does in any case: then
	// calls are bounded by their limits alone.
	rampWidth = 64
	rampTime  = time.Minute
)

// ramp lets calls begin gently after a hold.
type ramp struct {
	began  time.Time
	width  int // calls that may be in flight
	flying int
	// refused: a call had to wait since somebody was last woken.
	refused bool
}

func newRamp(now time.Time) ramp { return ramp{began: now, width: 1} }

func (r *ramp) admit() bool {
	if r.flying >= r.width {
		r.refused = true
		return false
	}
	r.flying++
	return true
}

// done counts the end of a call, and reports whether the ramp is over. Calls
// that were in flight before the hold may end here too.
func (r *ramp) done(succeeded bool) bool {
	r.flying = max(r.flying-1, 0)
	if succeeded {
		r.width++
	}
	return r.width >= rampWidth
}

func (r *ramp) over(now time.Time) bool { return now.Sub(r.began) >= rampTime }
