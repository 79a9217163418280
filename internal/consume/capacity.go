package consume

import "sync/atomic"

// slotAccount is a model's slots in the cluster. None of its methods waits.
type slotAccount interface {
	// Acquire takes a slot. After false, the account's owner is called back when
	// there may be one.
	Acquire() bool
	Release()
}

// capacity reserves what a call needs: a slot of its model, which counts in the
// whole cluster, and a place among the calls of this process, which all models
// share. Nothing else takes either. It is safe for concurrent use.
//
// Invariants:
//
//   - Of slot and place, reserve takes both or neither. The slot comes first: a
//     place that is taken and given up again would have to be announced to those
//     who missed it meanwhile, a slot is wanted by the caller's pool alone.
//   - A reserve that fails for want of a place sets wanted, and looks again. So
//     either it sees the place that a free releases, or that free is told to
//     offer it. A pool is on the list of places before it looks for the last time,
//     so it is offered to it too.
//   - While results of maxResults bytes wait to be stored, no call is reserved;
//     calls in flight may add theirs. The freeResult that brings them below is
//     told to wake all pools. A pool reserves under its lock and is woken under
//     it, so it sees either the smaller number or the wake.
type capacity struct {
	places int64 // set once
	used   atomic.Int64
	wanted atomic.Bool  // a reserve has failed for want of a place
	turn   atomic.Int64 // of the pools at pulling after a call

	maxResults int64        // bytes; set once
	results    atomic.Int64 // bytes of results that wait to be stored
}

// reservation is the outcome of a reserve.
type reservation int

const (
	reserved reservation = iota
	noSlot               // nor a call while so many results wait
	noPlace
)

func (c *capacity) reserve(slots slotAccount) reservation {
	switch {
	case c.results.Load() >= c.maxResults:
		return noSlot
	case c.full():
		return noPlace
	case !slots.Acquire():
		return noSlot
	case c.take():
		return reserved
	}
	slots.Release()
	return noPlace
}

// free releases what reserve took. The caller must offer the place to the pools
// that wait for one if it returns true.
func (c *capacity) free(slots slotAccount) (offer bool) {
	slots.Release()
	return c.freePlace()
}

// freePlace releases the place alone, of a call whose slot is kept for a while.
func (c *capacity) freePlace() (offer bool) {
	c.used.Add(-1)
	return c.wanted.Swap(false)
}

// addResult counts bytes of a result that waits to be stored, or for the program.
func (c *capacity) addResult(bytes int) { c.results.Add(int64(bytes)) }

// freeResult counts bytes that wait no more. The caller must wake all pools if it
// returns true.
func (c *capacity) freeResult(bytes int) (wakeAll bool) {
	now := c.results.Add(-int64(bytes))
	return now < c.maxResults && now+int64(bytes) >= c.maxResults
}

// full reports whether there is no place, and if so sets wanted.
func (c *capacity) full() bool {
	if c.used.Load() < c.places {
		return false
	}
	c.wanted.Store(true) // and look again: the last call may just have ended
	return c.used.Load() >= c.places
}

func (c *capacity) take() bool {
	for !c.full() {
		if n := c.used.Load(); n < c.places && c.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
	return false
}
