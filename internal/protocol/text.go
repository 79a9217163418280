package protocol

import (
	"fmt"
	"strings"
)

var phaseNames = [...]string{"no row", "pending", "claimed", "processing", "completed", "failed", "canceled", "expired"}

// String implements fmt.Stringer.
func (p Phase) String() string { return phaseNames[p] }

var stageNames = [...]string{"nothing", "received", "started", "calling", "hung", "completed", "failed", "retry", "retry in Postgres", "release"}

// String implements fmt.Stringer.
func (s Stage) String() string { return stageNames[s] }

var processNames = [...]string{"gone", "running", "stopping", "frozen", "lapsed"}

// String implements fmt.Stringer.
func (p Process) String() string { return processNames[p] }

var recordNames = [...]string{"dead", "alive", "stale", "ended"}

// String implements fmt.Stringer.
func (r Record) String() string { return recordNames[r] }

// String tells a state in lines, for the end of a trace.
func (s State) String() string {
	var b strings.Builder
	for r, row := range s.Rows {
		fmt.Fprintf(&b, "      request %d: ", r+1)
		switch {
		case s.Results[r].State != Absent:
			fmt.Fprintf(&b, "%s at claim %d", s.Results[r].State, s.Results[r].Claim)
		case row.State == Absent:
			b.WriteString("no row")
		default:
			fmt.Fprintf(&b, "%s, claim %d, delivery %d, attempt %d", row.State, row.Claim, row.Delivery, row.Attempt)
			if row.Daemon > 0 {
				fmt.Fprintf(&b, ", by consumer %d", row.Daemon)
			}
			if row.Due > 0 {
				b.WriteString(", due")
			}
			if row.Backoff > 0 {
				b.WriteString(", in backoff")
			}
		}
		if m := s.Messages[r]; m.Claim > 0 {
			fmt.Fprintf(&b, "; message of claim %d, delivered %d times", m.Claim, m.Delivery)
		}
		for d, a := range s.Daemons {
			if t := a.Tasks[r]; t.Stage != NoTask {
				fmt.Fprintf(&b, "; at consumer %d %s, claim %d, delivery %d", d+1, t.Stage, t.Claim, t.Delivery)
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("      consumers:")
	for d, a := range s.Daemons {
		fmt.Fprintf(&b, " %d %s, by its record %s;", d+1, a.Process, a.Record)
	}
	return b.String()
}
