package consume

import (
	"container/heap"
	"sync"
	"time"

	"fusillade/internal/slots"
	"fusillade/streams"
)

// A message that waits out a backoff in the stream keeps its place in the
// model's MaxAckPending, and without places nothing is delivered. Of these
// places all owners together fill no more than a half by waiting, and one owner
// no more than an eighth; each consumer its part of that, as its slots are a
// part of the limit. What finds no place waits in Postgres.
const (
	waitingPart      = 2
	ownerWaitingPart = 8
)

// share bounds how many messages of one model this consumer leaves in the stream
// to wait. It is safe for concurrent use.
type share struct {
	mu      sync.Mutex
	waiting waits
	owners  map[string]int // how many of waiting are the owner's; none is zero
}

// take takes a place for a message of the owner, until the given time, if there
// is one.
func (s *share) take(owner string, now, until time.Time, standing slots.Standing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 && !s.waiting[0].until.After(now) {
		over, _ := heap.Pop(&s.waiting).(wait)
		if s.owners[over.owner]--; s.owners[over.owner] == 0 {
			delete(s.owners, over.owner)
		}
	}
	places := streams.MaxAckPending(standing.Limit) * standing.Held / max(standing.Limit, 1)
	if len(s.waiting) >= places/waitingPart || s.owners[owner] >= places/ownerWaitingPart {
		return false
	}
	heap.Push(&s.waiting, wait{until, owner})
	if s.owners == nil {
		s.owners = make(map[string]int)
	}
	s.owners[owner]++
	return true
}

type wait struct {
	until time.Time
	owner string
}

// waits is a heap, the one that ends first at its top.
type waits []wait

// Len implements heap.Interface.
func (w waits) Len() int { return len(w) }

// Less implements heap.Interface.
func (w waits) Less(i, j int) bool { return w[i].until.Before(w[j].until) }

// Swap implements heap.Interface.
func (w waits) Swap(i, j int) { w[i], w[j] = w[j], w[i] }

// Push implements heap.Interface.
func (w *waits) Push(x any) { *w = append(*w, x.(wait)) } //nolint:forcetypeassert // heap.Push above is the only caller

// Pop implements heap.Interface.
func (w *waits) Pop() any {
	last := len(*w) - 1
	x := (*w)[last]
	*w = (*w)[:last]
	return x
}
