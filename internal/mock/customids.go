package mock

import (
	"sync"
	"sync/atomic"
)

// customIDs counts calls by custom id. It is split in parts with a lock each,
// so that calls seldom wait for one another.
type customIDs struct {
	parts      [64]customIDPart
	unrecorded atomic.Int64
}

type customIDPart struct {
	mu    sync.Mutex
	calls map[string]int64
}

func newCustomIDs() *customIDs {
	c := new(customIDs)
	c.reset()
	return c
}

// next returns how often the custom id has been called before; ok is false if
// it is new and the record is full. hash spreads the custom ids.
func (c *customIDs) next(customID string, hash uint64) (calls int64, ok bool) {
	part := &c.parts[hash%uint64(len(c.parts))]
	part.mu.Lock()
	defer part.mu.Unlock()
	calls, known := part.calls[customID]
	if !known && len(part.calls) >= maxCustomIDs/len(c.parts) {
		c.unrecorded.Add(1)
		return 0, false
	}
	part.calls[customID] = calls + 1
	return calls, true
}

func (c *customIDs) snapshot() map[string]int64 {
	all := make(map[string]int64)
	for i := range c.parts {
		part := &c.parts[i]
		part.mu.Lock()
		for customID, calls := range part.calls {
			all[customID] = calls
		}
		part.mu.Unlock()
	}
	return all
}

func (c *customIDs) reset() {
	for i := range c.parts {
		part := &c.parts[i]
		part.mu.Lock()
		part.calls = make(map[string]int64)
		part.mu.Unlock()
	}
	c.unrecorded.Store(0)
}
