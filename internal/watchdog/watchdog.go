// Package watchdog notices loops that make no progress.
//
// A loop calls Busy when it begins a step and Idle when it waits for something
// to do. A step that takes longer than the bound is stuck: all that a step
// waits for has a deadline of its own, so only a lock that is never released,
// or a call that ignores its deadline, takes that long. Waiting for a database
// or a broker that is away, and trying again, is not a step.
package watchdog

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Watchdog watches loops. It is safe for concurrent use; a nil one watches nothing.
type Watchdog struct {
	bound time.Duration
	began time.Time

	mu    sync.Mutex
	loops map[*Loop]struct{}
}

// New returns a Watchdog that takes a loop for stuck after a step of more than the
// bound.
func New(bound time.Duration) *Watchdog {
	return &Watchdog{bound: bound, began: time.Now(), loops: make(map[*Loop]struct{})}
}

// Loop is one loop that is watched, or one step. A nil one is not.
type Loop struct {
	watchdog *Watchdog
	name     string
	step     atomic.Int64 // when the step began, in nanoseconds after the watchdog did, from 1; 0: idle
}

// Loop begins to watch a loop, which is idle at first. The caller must call End.
func (d *Watchdog) Loop(name string) *Loop {
	if d == nil {
		return nil
	}
	l := &Loop{watchdog: d, name: name}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loops[l] = struct{}{}
	return l
}

// Step begins to watch a single step. The caller must call End after it.
func (d *Watchdog) Step(name string) *Loop {
	l := d.Loop(name)
	l.Busy()
	return l
}

// Busy notes that a step begins, and so that the last one has ended.
func (l *Loop) Busy() {
	if l != nil {
		l.step.Store(int64(time.Since(l.watchdog.began)) + 1)
	}
}

// Idle notes that the last step has ended and that no other has begun.
func (l *Loop) Idle() {
	if l != nil {
		l.step.Store(0)
	}
}

// End ends the watch.
func (l *Loop) End() {
	if l == nil {
		return
	}
	l.watchdog.mu.Lock()
	defer l.watchdog.mu.Unlock()
	delete(l.watchdog.loops, l)
}

// Stuck names the loops that make no progress, in order; nil: all do.
func (d *Watchdog) Stuck() []string {
	if d == nil {
		return nil
	}
	limit := int64(time.Since(d.began) - d.bound)
	var stuck []string
	d.mu.Lock()
	defer d.mu.Unlock()
	for l := range d.loops {
		if began := l.step.Load(); began != 0 && began-1 <= limit {
			stuck = append(stuck, l.name)
		}
	}
	slices.Sort(stuck)
	return slices.Compact(stuck)
}
