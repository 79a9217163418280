package adaptive

import "time"

// Cause says why the limit changed.
type Cause string

// The causes of decisions.
const (
	Grows       Cause = "throughput_grows"
	NoGain      Cause = "only_latency_grows"
	Probe       Cause = "probe"
	ProbeOver   Cause = "probe_over"
	Unused      Cause = "unused"
	Independent Cause = "errors_independent_of_load"
	Refused     Cause = "refused"    // 429
	Overloaded  Cause = "overloaded" // 503, 529
	TimedOut    Cause = "timed_out"
	Unreachable Cause = "unreachable" // refused connections
)

// Causes are all of them.
func Causes() []Cause {
	return []Cause{Grows, NoGain, Probe, ProbeOver, Unused, Independent, Refused, Overloaded, TimedOut, Unreachable}
}

// Sample is what happened since the sample before.
type Sample struct {
	Elapsed time.Duration
	// Begun counts calls, and InFlight is how long all of them together were in
	// flight, in seconds.
	Begun    int
	InFlight float64
	// Full: a call had to wait for a slot.
	Full bool
	// Completed are the calls that completed, of those that began since the last
	// Decision with Anew.
	Completed Sums
	// Early are those of the calls that began in the first Decision.Cohort after it.
	Early Cohort
	// Congested counts what says that it was too much, of calls that began since the
	// last cut; Cause is the kind of the last of them, and Pause the longest that the
	// endpoint asked for.
	Congested int
	Cause     Cause
	Pause     time.Duration
}

// Cohort are calls that began in the same short time.
type Cohort struct {
	Begun     int
	Ended     int // however
	Completed Sums
}

// Plus adds up.
func (c Cohort) Plus(o Cohort) Cohort {
	return Cohort{c.Begun + o.Begun, c.Ended + o.Ended, c.Completed.Plus(o.Completed)}
}

// Decision is the answer to a sample.
type Decision struct {
	Limit int
	// Cause is empty if the limit stays.
	Cause Cause
	// Anew: calls that began before are not measured any more, and the next are for
	// a while, Cohort, a cohort.
	Anew   bool
	Cohort time.Duration
	// Cut: congestion of calls that began before is not counted any more.
	Cut bool
}
