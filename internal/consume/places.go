package consume

import (
	"sync"
	"sync/atomic"
)

// places says which pool is next at a place of this process: one of the owner with
// the fewest calls in flight here, and of that owner's pools the one that has
// waited longest. An owner with a thousand models has a thousand pools, and no more
// of the places for it; nor has one whose calls take long. It is safe for
// concurrent use.
type places struct {
	mu      sync.Mutex
	owners  map[string]*ownerPlaces // with calls in flight, or with pools that wait
	waiting map[*ownerPlaces]bool   // with pools that wait
	asked   uint64
}

// ownerPlaces are those of one owner.
type ownerPlaces struct {
	name  string
	inUse atomic.Int64
	// Guarded by the mutex of places.
	pools []waitingPool
	refs  int // of the pools that count in inUse
}

type waitingPool struct {
	pool   *pool
	number uint64 // the lowest has waited longest
}

func newPlaces() *places {
	return &places{owners: make(map[string]*ownerPlaces), waiting: make(map[*ownerPlaces]bool)}
}

// of returns an owner's places. The lock is held.
func (s *places) of(owner string) *ownerPlaces {
	o := s.owners[owner]
	if o == nil {
		o = &ownerPlaces{name: owner}
		s.owners[owner] = o
	}
	return o
}

// tidy forgets an owner of whom nothing is left. The lock is held.
func (s *places) tidy(o *ownerPlaces) {
	if o.refs == 0 && len(o.pools) == 0 {
		delete(s.owners, o.name)
	}
}

// open returns what counts an owner's calls, until close.
func (s *places) open(owner string) *ownerPlaces {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of(owner)
	o.refs++
	return o
}

func (s *places) close(o *ownerPlaces) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.refs--
	s.tidy(o)
}

// wait lists a pool whose next task, of the owner, has found no place. It is listed
// once, for whichever owner came first.
func (s *places) wait(owner string, p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.listed {
		return
	}
	p.listed = true
	s.asked++
	o := s.of(owner)
	o.pools = append(o.pools, waitingPool{p, s.asked})
	s.waiting[o] = true
}

// next takes the pool that is next off the list; nil: none waits.
func (s *places) next() *pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first *ownerPlaces
	var fewest int64
	for o := range s.waiting {
		n := o.inUse.Load()
		if first == nil || n < fewest || n == fewest && o.pools[0].number < first.pools[0].number {
			first, fewest = o, n
		}
	}
	if first == nil {
		return nil
	}
	p := first.pools[0].pool
	p.listed = false
	if first.pools = first.pools[1:]; len(first.pools) == 0 {
		first.pools = nil
		delete(s.waiting, first)
		s.tidy(first)
	}
	return p
}
