package consume

import (
	"cmp"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/upstream"
)

const (
	// unknownCall stands for the time of a call while none has been answered.
	unknownCall = 50 * time.Millisecond
	// maxBrake bounds how long a slot is kept; where an answer takes longer it is as
	// long, up to maxSlowBrake. So soon after its end an overload is noticed to be over.
	maxBrake     = time.Second
	maxSlowBrake = 10 * time.Second
)

// brake keeps the calls a second to a model from rising while its endpoint is
// overloaded. One that is answers at once: the slot would be free for the next call,
// which fails likewise, and all that waits would spend its attempts within seconds. So
// a call that an overload failed keeps its slot for as long as an answered one takes;
// while that is all that comes, for twice as long with each round of the slots. Other
// failures free their slots at once. It is safe for concurrent use.
//
// An automatic limit goes down by itself, and what is refused or asked to wait is held.
type brake struct {
	usual  atomic.Int64 // how long a call that is answered takes, of late: nanoseconds
	failed atomic.Int64 // calls in a row that an overload has failed
}

// after returns for how long a call that has ended keeps its slot.
func (b *brake) after(t *task, o *upstream.Outcome, k kind) time.Duration {
	if o.Reason == "" {
		usual := cmp.Or(b.usual.Load(), int64(o.Elapsed))
		b.usual.Store(usual + (int64(o.Elapsed)-usual)/8) // one of two at once may be lost
		if b.failed.Load() != 0 {
			b.failed.Store(0)
		}
		return 0
	}
	if (k != retry && k != fail) || !overloads(o) || t.start.HasOwnKey {
		return 0
	}
	standing := t.pool.account.Standing()
	if standing.Automatic {
		return 0
	}
	rounds := b.failed.Add(1) / int64(max(standing.Allowed, 1))
	return keep(time.Duration(b.usual.Load()), o.Elapsed, rounds, rand.Float64())
}

// overloads holds for failures by which an endpoint says that it has too much, and not
// for how long.
func overloads(o *upstream.Outcome) bool {
	return congestionOf(o, false) != "" && o.Refusal == nil && askedPause(o) == 0
}

// keep is how long a slot is kept after a call that took so long. random is in [0, 1)
// and spreads what failed together.
func keep(usual, took time.Duration, rounds int64, random float64) time.Duration {
	most := max(maxBrake, min(usual, maxSlowBrake))
	kept := max(usual, unknownCall)
	for range rounds {
		if kept >= most {
			break
		}
		kept *= 2
	}
	kept = min(kept, most)
	return max(kept+time.Duration(batch.Jitter*random*float64(kept))-took, 0)
}

// keepSlot waits until a slot is to be freed, or no more work is taken. The place of the
// process is free meanwhile.
func (p *pool) keepSlot(pause time.Duration) {
	if p.c.capacity.freePlace() {
		p.c.dispatchNext()
	}
	select {
	case <-time.After(pause):
	case <-p.c.taking.Done():
	}
}
