package mock

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
)

// engine works on a number of calls at once, its knee. Calls beyond it wait in the
// order of their arrival, as they do in engines that bound their batch and not
// their queue. Its zero value has no room until the first enter.
type engine struct {
	used atomic.Bool // it has had a knee

	mu      sync.Mutex
	knee    int64
	running int64
	waiting list.List // of chan struct{}, closed when the call may go on
}

// enter waits until the call is worked on. False: its client went away before.
func (e *engine) enter(ctx context.Context, knee int64) bool {
	e.mu.Lock()
	e.used.Store(true)
	e.knee = knee
	if e.running < e.knee && e.waiting.Len() == 0 {
		e.running++
		e.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	place := e.waiting.PushBack(turn)
	e.admit()
	e.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-turn: // at the same moment
		e.running--
		e.admit()
	default:
		e.waiting.Remove(place)
	}
	return false
}

// leave ends the work on a call.
func (e *engine) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running--
	e.admit()
}

// resize moves the knee. Calls beyond a lower one are worked on to their end.
func (e *engine) resize(knee int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.knee = knee
	e.admit()
}

// admit lets those go on for whom there is room. The caller holds the lock.
func (e *engine) admit() {
	for e.running < e.knee {
		first := e.waiting.Front()
		if first == nil {
			return
		}
		e.running++
		close(e.waiting.Remove(first).(chan struct{})) //nolint:forcetypeassert // enter adds nothing else
	}
}
