package slots

import (
	"time"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
)

// Auto is the part of an entry whose limit is found while it runs.
type Auto struct {
	Least int `json:"least"`
	Most  int `json:"most"`
	// Epoch numbers the decisions. Calls are measured if they began in it, and in the
	// first CohortMS of it as a cohort.
	Epoch    uint64 `json:"epoch"`
	CohortMS int64  `json:"cohort_ms"`
	// CutEpoch is that of the last cut: of calls that began before, congestion is not
	// counted any more.
	CutEpoch uint64 `json:"cut_epoch"`
	// Decider is the daemon that decides; empty: nobody yet.
	Decider string         `json:"decider,omitempty"`
	State   adaptive.State `json:"state"`
	// Cause is why the limit is no longer From, since Changed by the decider's clock.
	Cause   adaptive.Cause `json:"cause,omitempty"`
	From    int            `json:"from,omitempty"`
	Changed time.Time      `json:"changed,omitzero"`
	// Throughput is of completed work in a second, as the decider last measured it
	// when it decided: tokens, or calls where there are none.
	CallsPerSecond  float64 `json:"calls_per_second,omitempty"`
	TokensPerSecond float64 `json:"tokens_per_second,omitempty"`
}

// firstCohort is that of a new automatic limit.
const firstCohort = time.Second

// withLimit returns the entry with a limit as it was set. A limit that becomes
// automatic begins with what it was, or with the calls that daemons have in flight
// if the bucket was lost, and a new one low.
func (e Entry) withLimit(l batch.Limit) Entry {
	least, most, auto := l.Auto()
	if !auto {
		e.Limit, e.Auto = int(l), nil
		return e
	}
	within := func(n int) int { return min(max(n, least), most) }
	if e.Auto == nil {
		begin := e.Limit
		if begin == 0 {
			begin = max(e.Held(), adaptive.Start)
		}
		e.Limit = within(begin)
		e.Auto = &Auto{Least: least, Most: most, Epoch: 1, CohortMS: firstCohort.Milliseconds()}
		return e
	}
	a := *e.Auto
	a.Least, a.Most = least, most
	if limit := within(e.Limit); limit != e.Limit {
		e.Limit = limit
		a.Epoch++
	}
	e.Auto = &a
	return e
}

// setLimit is the limit as it was set.
func (e Entry) setLimit() batch.Limit {
	if e.Auto != nil {
		return batch.AutoLimit(e.Auto.Least, e.Auto.Most)
	}
	return batch.Limit(e.Limit)
}

// decided returns the entry after a decision.
func (a Auto) decided(e Entry, d adaptive.Decision, s adaptive.State, now time.Time) Entry {
	a.State = s
	if d.Anew {
		a.Epoch++
		a.CohortMS = d.Cohort.Milliseconds()
	}
	if d.Cut {
		a.CutEpoch = a.Epoch
	}
	if d.Limit != e.Limit {
		a.Cause, a.From, a.Changed = d.Cause, e.Limit, now.UTC()
	}
	e.Limit, e.Auto = d.Limit, &a
	return e
}
