package consume

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/upstream"
)

// Refusal is that the latest calls to a model were all refused in a way that a
// person must mend: the endpoint is not there, or refuses the credential or the
// model.
type Refusal struct {
	upstream.Refusal // of the latest call
	Model            batch.Model
	Since            time.Time // when the first of them ended
	Calls            int64     // how many there were
	// Failed is how many of them failed their requests; the others' are called again.
	Failed int64
}

// refusals follows the outcomes of calls, by model.
type refusals struct {
	any atomic.Bool // read without the lock by calls that end well

	mu     sync.Mutex
	models map[batch.Model]Refusal // whose calls were refused since their last other outcome
}

// add takes one call's outcome.
func (r *refusals) add(model batch.Model, o *upstream.Outcome, failed bool, now time.Time) {
	if o.Reason == batch.TaskTerminated || o.Refusal == nil && !r.any.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.Refusal == nil {
		delete(r.models, model)
		r.any.Store(len(r.models) > 0)
		return
	}
	if r.models == nil {
		r.models = make(map[batch.Model]Refusal)
	}
	last, known := r.models[model]
	if !known {
		last.Model, last.Since = model, now
	}
	last.Refusal = *o.Refusal
	last.Calls++
	if failed {
		last.Failed++
	}
	r.models[model] = last
	r.any.Store(true)
}

// list returns what is refused, that for the longest time first.
func (r *refusals) list() []Refusal {
	if !r.any.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Refusal, 0, len(r.models))
	for _, last := range r.models {
		list = append(list, last)
	}
	slices.SortFunc(list, func(a, b Refusal) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Model, b.Model)) })
	return list
}
