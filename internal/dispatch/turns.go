package dispatch

import (
	"container/heap"
	"context"
	"maps"
	"sync"
)

const (
	// queriesAtOnce is how many lanes read or claim at once. More would wait for
	// connections to Postgres, first come, first served.
	queriesAtOnce = 8
	// publishesAtOnce is how many messages of all lanes together are on their way
	// to the stream. Beyond it the client would let publishes wait, in no order.
	publishesAtOnce = publishPending
)

// turns shares a number of places among the lanes of a dispatcher, by owner: an
// owner with work for a thousand models has a thousand lanes, and may have no more
// of what they share than one with a single model. It is start-time fair queueing
// like the scheduler's, over the places that are taken. As long as there are
// places for all, it costs a lock. It is safe for concurrent use.
//
// A lane takes its turn for the owner who comes next in it. What it then claims may
// be of others too, whose turns it is at the next claims.
type turns struct {
	mu      sync.Mutex
	places  int // set once
	free    int
	clock   float64            // the tag of the last turn that began
	tags    map[string]float64 // of owners whose next turn is later than the clock
	prune   int                // how many tags there are when those that are over are removed
	waiting byStart
	asked   uint64
}

// turn is a lane that waits.
type turn struct {
	start  float64 // its tag
	number uint64  // of what has the same tag, the first that asked is next
	places int
	began  chan struct{}
	index  int // in the heap; -1: it has begun
}

func newTurns(places int) *turns {
	return &turns{places: places, free: places, tags: make(map[string]float64)}
}

// take waits until it is the owner's turn and takes so many places, which give
// releases. An owner of twice the weight has twice as many. It returns ctx's
// error, and has taken none, if that ends first.
func (t *turns) take(ctx context.Context, owner string, weight float64, places int) error {
	t.mu.Lock()
	places = min(places, t.places)
	start := max(t.tags[owner], t.clock)
	t.tags[owner] = start + float64(places)/max(weight, 1e-9)
	t.asked++
	next := &turn{start: start, number: t.asked, places: places, began: make(chan struct{})}
	heap.Push(&t.waiting, next)
	t.begin()
	t.mu.Unlock()
	select {
	case <-next.began:
		return nil
	default:
	}
	select {
	case <-next.began:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if next.index < 0 {
		return nil // at the last moment
	}
	heap.Remove(&t.waiting, next.index)
	t.begin() // it may have been too large for what is free
	return ctx.Err()
}

// give releases places.
func (t *turns) give(places int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free += min(places, t.places)
	t.begin()
}

// begin lets those begin who are next and find places. One that finds too few
// waits for them, and so do all after it. The lock is held.
func (t *turns) begin() {
	for len(t.waiting) > 0 && t.waiting[0].places <= t.free {
		next, _ := heap.Pop(&t.waiting).(*turn)
		t.free -= next.places
		t.clock = max(t.clock, next.start)
		close(next.began)
	}
	if len(t.tags) >= t.prune {
		maps.DeleteFunc(t.tags, func(_ string, tag float64) bool { return tag <= t.clock })
		t.prune = 2*len(t.tags) + 64
	}
}

// byStart is a heap, the next turn at its top.
type byStart []*turn

// Len implements heap.Interface.
func (h byStart) Len() int { return len(h) }

// Less implements heap.Interface.
func (h byStart) Less(i, j int) bool {
	return h[i].start < h[j].start || h[i].start == h[j].start && h[i].number < h[j].number
}

// Swap implements heap.Interface.
func (h byStart) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *byStart) Push(x any) {
	next, _ := x.(*turn)
	next.index = len(*h)
	*h = append(*h, next)
}

// Pop implements heap.Interface.
func (h *byStart) Pop() any {
	last := len(*h) - 1
	next := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	next.index = -1
	return next
}
