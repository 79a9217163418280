package consume

import "time"

// leases returns the tasks whose lease is to be renewed now, and marks them. A
// lease is renewed so often, and not beyond the processing timeout while there
// is no result: then the call is late, and another consumer may take the request
// over. What waits to be stored is kept, for its call would only be paid for again.
//
// Of tens of thousands that wait it looks only at those whose time has come.
func (f *inflight) leases(now time.Time, every, processingTimeout time.Duration) (old, late []*task) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.oldest.IsZero() && now.Sub(f.oldest) >= processingTimeout {
		late = f.late(now, processingTimeout)
	}
	least := every
	for e := f.leased.Front(); e != nil; e = f.leased.Front() {
		t := e.Value.(*task)
		switch {
		case now.Sub(t.renewed) < least:
			return old, late
		case t.late(now, processingTimeout):
			f.unlease(t)
		default:
			t.renewed = now
			f.leased.MoveToBack(e)
			old = append(old, t)
			least = every - every/8 // those of the next moments go with it
		}
	}
	return old, late
}

// late looks at all calls. It needs the lock.
func (f *inflight) late(now time.Time, processingTimeout time.Duration) (late []*task) {
	f.oldest = time.Time{}
	for _, t := range f.tasks {
		if t.goesOn() {
			f.began(t.renewedStart)
		}
		if t.late(now, processingTimeout) {
			late = append(late, t)
		}
	}
	return late
}

// goesOn reports whether the task is started and has no result. It needs the lock.
func (t *task) goesOn() bool { return !t.started.IsZero() && t.result == 0 }

// late reports whether the task's call takes longer than it may. It needs the lock.
func (t *task) late(now time.Time, processingTimeout time.Duration) bool {
	return t.goesOn() && now.Sub(t.renewedStart) >= processingTimeout
}

// began notes that a call goes on since then. It needs the lock.
func (f *inflight) began(at time.Time) {
	if f.oldest.IsZero() || at.Before(f.oldest) {
		f.oldest = at
	}
}

// unlease has the task's lease renewed no more. It needs the lock.
func (f *inflight) unlease(t *task) {
	if t.lease != nil {
		f.leased.Remove(t.lease)
		t.lease = nil
	}
}

// leaseAgain has the lease of a task that was late renewed at once. It needs the lock.
func (f *inflight) leaseAgain(t *task) {
	if t.lease == nil && f.tasks[t.delivery.ID] == t {
		t.lease = f.leased.PushFront(t)
	}
}
