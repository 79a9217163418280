package slots

import (
	"sync"
	"sync/atomic"
	"time"

	"fusillade/internal/adaptive"
)

// Outcome is that of one call, as far as an automatic limit is concerned.
type Outcome struct {
	Took      time.Duration
	Completed bool
	Tokens    int64 // that it made; 0: it did not say
	// Congestion says that it was too much for the endpoint; empty: it does not.
	Congestion adaptive.Cause
	Pause      time.Duration // that the endpoint asked for
}

// Mark is what is known of a call from its begin. Its zero value is a call of a
// model whose limit is a number.
type Mark struct {
	epoch uint64
	early bool
}

// meter adds up the outcomes of one model's calls, for reports. It is used only
// while the limit is automatic. It is safe for concurrent use.
type meter struct {
	on atomic.Bool

	mu       sync.Mutex
	epoch    uint64
	cut      uint64
	cohort   time.Duration
	since    time.Time // when this epoch was seen first
	counted  time.Time // until when InFlight is added up
	inFlight int
	latency  time.Duration // of a call that completes, about; 0: not known
	news     news
}

// news is what happened since the report before.
type news struct {
	Epoch     uint64          `json:"epoch"`
	CutEpoch  uint64          `json:"cut_epoch"`
	Begun     int             `json:"begun,omitempty"`
	InFlight  float64         `json:"in_flight,omitempty"` // call-seconds
	Full      bool            `json:"full,omitempty"`
	Completed adaptive.Sums   `json:"completed,omitzero"`
	Early     adaptive.Cohort `json:"early,omitzero"`
	Congested int             `json:"congested,omitempty"`
	Cause     adaptive.Cause  `json:"cause,omitempty"`
	PauseMS   int64           `json:"pause_ms,omitempty"`
	// Calls and Tokens are of all calls that completed, whenever they began.
	Calls  int   `json:"calls,omitempty"`
	Tokens int64 `json:"tokens,omitempty"`
}

// busy reports whether anything was in flight.
func (n *news) busy() bool { return n.InFlight > 0 || n.Begun > 0 }

// observe takes over what was decided; nil: the limit is a number.
func (m *meter) observe(a *Auto, now time.Time) {
	if a == nil {
		m.on.Store(false)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.on.Swap(true) { // calls that began before are not counted
		m.inFlight, m.news, m.counted = 0, news{}, now
	}
	m.cut, m.cohort = a.CutEpoch, time.Duration(a.CohortMS)*time.Millisecond
	if a.Epoch != m.epoch {
		m.epoch, m.since = a.Epoch, now
		m.news.Completed, m.news.Early = adaptive.Sums{}, adaptive.Cohort{}
	}
}

// integrate needs the lock.
func (m *meter) integrate(now time.Time) {
	if d := now.Sub(m.counted); d > 0 {
		m.news.InFlight += float64(m.inFlight) * d.Seconds()
		m.counted = now
	}
}

func (m *meter) begin(now time.Time) Mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.integrate(now)
	m.inFlight++
	m.news.Begun++
	mark := Mark{epoch: m.epoch, early: now.Sub(m.since) < m.cohort}
	if mark.early {
		m.news.Early.Begun++
	}
	return mark
}

// end counts the end of a call, and reports whether it is news that the endpoint has
// too much.
func (m *meter) end(mark Mark, o Outcome, now time.Time) (congested bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.integrate(now)
	m.inFlight = max(m.inFlight-1, 0)
	current := mark.epoch == m.epoch
	if current && mark.early {
		m.news.Early.Ended++
	}
	if o.Completed {
		m.news.Calls++
		m.news.Tokens += o.Tokens
		m.latency += (o.Took - m.latency) / 8
		if current {
			m.news.Completed.Add(o.Took, o.Tokens)
			if mark.early {
				m.news.Early.Completed.Add(o.Took, o.Tokens)
			}
		}
	}
	if o.Congestion == "" || mark.epoch < m.cut {
		return false
	}
	m.news.Congested++
	m.news.Cause = o.Congestion
	m.news.PauseMS = max(m.news.PauseMS, o.Pause.Milliseconds())
	return true
}

// take returns what happened since it was called last.
func (m *meter) take(now time.Time) news {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.integrate(now)
	n := m.news
	n.Epoch, n.CutEpoch = m.epoch, m.cut
	m.news = news{}
	return n
}

// full notes that a call had to wait for a slot.
func (m *meter) full() {
	if !m.on.Load() {
		return
	}
	m.mu.Lock()
	m.news.Full = true
	m.mu.Unlock()
}

const (
	// A call that was refused at once keeps its slot for as long as a call takes, but
	// no longer than this, so that an endpoint that refuses is not hammered with what
	// the slots of refused calls let begin.
	maxParked = time.Second
	leastPark = 50 * time.Millisecond
)

// park is how long that is.
func (m *meter) park(took time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return min(max(m.latency, leastPark), maxParked) - took
}

// CallBegins marks a call that begins.
func (a *Account) CallBegins() Mark {
	if !a.meter.on.Load() {
		return Mark{}
	}
	return a.meter.begin(time.Now())
}

// CallEnds says the outcome, before its slot is released.
func (a *Account) CallEnds(mark Mark, o Outcome) {
	if mark == (Mark{}) || !a.meter.on.Load() {
		return
	}
	now := time.Now()
	if !a.meter.end(mark, o, now) {
		return
	}
	if left := a.meter.park(o.Took); left > 0 {
		a.mu.Lock()
		a.parked = append(a.parked, now.Add(left))
		a.mu.Unlock()
	}
	a.urgent.Notify()
}
