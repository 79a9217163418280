package bench

import (
	"runtime"
	"time"

	"fusillade/internal/postgres"
)

const (
	// waitingLatency is from which latency on calls are looked at while they only wait.
	waitingLatency = 5 * time.Second
	// waitingTime is for how long.
	waitingTime = 2 * time.Second
)

// waiting looks at this process while all slots are in calls: how much memory each
// takes, and what the process spends on them.
type waiting struct {
	m      *measurement
	before int64 // bytes, without calls
	bytes  int64 // with all of them

	begun   time.Time // when all were in flight; zero: they were not yet
	spent   time.Duration
	cores   float64
	settled bool
}

// newWaiting is nil where calls are too short to be looked at, or others make them.
func newWaiting(m *measurement) *waiting {
	if m.spent == nil || m.options.Latency < waitingLatency {
		return nil
	}
	return &waiting{m: m, before: memoryInUse()}
}

// look is called all the time.
func (w *waiting) look(postgres.Batch) error {
	if w == nil || w.settled {
		return nil
	}
	now := time.Now()
	switch {
	case w.m.inFlight() < w.m.options.Concurrency:
		w.begun = time.Time{}
	case w.begun.IsZero():
		w.bytes = memoryInUse()
		w.begun, w.spent = time.Now(), w.m.spent().cpu
	case now.Sub(w.begun) >= waitingTime:
		w.cores, w.settled = (w.m.spent().cpu-w.spent).Seconds()/now.Sub(w.begun).Seconds(), true
	}
	return nil
}

// report adds what was seen, if all slots were in calls for so long.
func (w *waiting) report(r *report) {
	if w != nil && w.settled {
		r.WaitingBytes, r.WaitingCores = float64(w.bytes-w.before)/float64(w.m.options.Concurrency), w.cores
	}
}

// memoryInUse is what the heap and the stacks hold after a collection.
func memoryInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
