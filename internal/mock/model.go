package mock

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// departure is how long the server may take to see that a client is gone, which may have
// begun another call meanwhile.
const departure = 100 * time.Millisecond

// otherModels gathers the calls to models beyond maxModels.
const otherModels = "(other)"

// model counts the calls to one model.
type model struct {
	calls, inFlight, peak, aborted, violations atomic.Int64
	byStatus                                   [600]atomic.Int64
	engine                                     engine

	mu     sync.Mutex
	beyond []time.Time // calls that were counted as violations, those of the last moment
}

// begin counts a call as in flight and returns how many are.
func (m *model) begin() int64 {
	m.calls.Add(1)
	n := m.inFlight.Add(1)
	for peak := m.peak.Load(); n > peak; peak = m.peak.Load() {
		if m.peak.CompareAndSwap(peak, n) {
			break
		}
	}
	return n
}

func (m *model) answer(status int) {
	m.inFlight.Add(-1)
	m.byStatus[status].Add(1)
}

// abort counts a call that has no answer.
func (m *model) abort() {
	m.inFlight.Add(-1)
	m.aborted.Add(1)
}

// depart counts a call whose client is gone. A call beyond the ceiling that came shortly
// before, when that client may have been gone already, was no violation.
func (m *model) depart() {
	m.abort()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forget(); len(m.beyond) > 0 {
		m.beyond = m.beyond[1:]
		m.violations.Add(-1)
	}
}

// violate counts a call beyond the ceiling.
func (m *model) violate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget()
	m.beyond = append(m.beyond, time.Now())
	m.violations.Add(1)
}

// forget drops the violations that no departure explains any more. It needs the lock.
func (m *model) forget() {
	m.beyond = slices.DeleteFunc(m.beyond, func(at time.Time) bool { return time.Since(at) > departure })
}

func (m *model) stats() ModelStats {
	stats := ModelStats{
		Counts: Counts{
			Calls: m.calls.Load(), InFlight: m.inFlight.Load(), Aborted: m.aborted.Load(),
			CeilingViolations: m.violations.Load(), ByStatus: make(map[int]int64),
		},
		PeakInFlight: m.peak.Load(),
	}
	for status := range m.byStatus {
		if n := m.byStatus[status].Load(); n > 0 {
			stats.ByStatus[status] = n
		}
	}
	return stats
}

func (m *model) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beyond = nil
	for i := range m.byStatus {
		m.byStatus[i].Store(0)
	}
	m.aborted.Store(0)
	m.violations.Store(0)
	m.calls.Store(m.inFlight.Load())
	m.peak.Store(m.inFlight.Load())
}

// models holds a counter per model. Reading takes no lock: a new model, which
// is rare, replaces the map.
type models struct {
	byName atomic.Pointer[map[string]*model]
	mu     sync.Mutex // serializes writers
}

func newModels() *models {
	m := new(models)
	m.byName.Store(&map[string]*model{})
	return m
}

func (m *models) get(name string) *model {
	if found := (*m.byName.Load())[name]; found != nil {
		return found
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.byName.Load()
	if len(old) >= maxModels && old[name] == nil {
		name = otherModels
	}
	if found := old[name]; found != nil {
		return found
	}
	replacement := make(map[string]*model, len(old)+1)
	for k, v := range old {
		replacement[k] = v
	}
	added := new(model)
	replacement[name] = added
	m.byName.Store(&replacement)
	return added
}
