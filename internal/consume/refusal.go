package consume

import (
	"sync"
	"sync/atomic"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/upstream"
)

// Refusal is that the latest calls were all refused in a way that a person
// must mend: the endpoint is not there, or refuses the credential or the model.
type Refusal struct {
	upstream.Refusal // of the latest call
	Model            batch.Model
	Since            time.Time // when the first of them ended
	Calls            int64     // how many there were
	// Failed is how many of them failed their requests; the others' are retried.
	Failed int64
}

// refusals follows the outcomes of calls.
type refusals struct {
	any atomic.Bool // read without the lock by calls that end well

	mu     sync.Mutex
	last   Refusal
	models map[batch.Model]bool // whose calls were refused since the last other outcome
}

// add takes one call's outcome.
func (r *refusals) add(model batch.Model, o *upstream.Outcome, failed bool, now time.Time) {
	switch {
	case o.Reason == batch.TaskTerminated, o.Refusal == nil && !r.any.Load():
		return
	case o.Refusal == nil:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last, r.models = Refusal{}, nil
		r.any.Store(false)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.models == nil {
		r.models = make(map[batch.Model]bool)
		r.last.Since = now
	}
	r.models[model] = true
	r.last.Refusal, r.last.Model = *o.Refusal, model
	r.last.Calls++
	if failed {
		r.last.Failed++
	}
	r.any.Store(true)
}

// refusal returns what keeps every call from succeeding; nil: nothing does, or
// calls of other models go on.
func (c *Consumer) refusal() *Refusal {
	if !c.refusals.any.Load() {
		return nil
	}
	c.refusals.mu.Lock()
	defer c.refusals.mu.Unlock()
	if c.refusals.models == nil {
		return nil
	}
	for _, p := range c.openPools() {
		if !c.refusals.models[p.account.Model()] && p.account.Standing().InUse > 0 {
			return nil
		}
	}
	last := c.refusals.last
	return &last
}
