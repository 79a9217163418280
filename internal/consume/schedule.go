package consume

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
	"fusillade/internal/rate"
	"fusillade/internal/slots"
	"fusillade/internal/watchdog"
)

// pool is one model in one consumer: the loop that pulls its messages, and the
// queue of its started requests that wait for a call.
type pool struct {
	// Set by openPool, then read only.
	c       *Consumer
	account *slots.Account
	metrics *modelMetrics
	room    notify.Signal // there may be room for more messages
	tray    *tray         // what the broker has delivered

	// Safe for concurrent use by itself.
	waiting    share
	brake      brake
	answered   atomic.Int64               // when a call without a key of a batch last got an answer, in Unix nanoseconds
	credential atomic.Pointer[credential] // by which its calls are made; nil: not known yet

	listed bool // at places, whose mutex guards it

	// Owned by the pull loop.
	pulling *watchdog.Loop

	mu         sync.Mutex
	starting   int        // messages on their way through the start
	ready      []*task    // started, waiting for a slot
	held       []heldTask // set apart by next; the holder of the lock releases them after it
	moreQueued bool       // more waited in the stream when the last message came
	closed     bool       // takes no message and begins no call any more
	rate       pace       // of calls
	lead       lead       // of messages
	times      slotTimes  // of the owners' calls
	// The account of the model's rate limit, and which one it is; nil: there is none.
	rated   *rate.Account
	ratedBy batch.RateLimit
}

// wake makes the pull loop look again whether there is room.
func (p *pool) wake() { p.room.Notify() }

// leftStart counts a message that has left the start without being ready.
func (p *pool) leftStart() {
	p.mu.Lock()
	p.starting--
	p.mu.Unlock()
	p.wake()
}

// enqueueReady takes a task from the start: its call is to be made.
func (p *pool) enqueueReady(t *task) {
	p.mu.Lock()
	p.starting--
	p.lead.add(time.Since(t.received))
	closed := p.closed
	if !closed {
		p.ready = append(p.ready, t)
	}
	p.mu.Unlock()
	if closed {
		p.c.release(t, 0)
		return
	}
	p.dispatchReady()
}

// dispatchReady begins the calls of ready tasks as capacity can be reserved.
func (p *pool) dispatchReady() {
	p.mu.Lock()
	var run []*task
	for t := p.next(); t != nil; t = p.next() {
		p.c.calls.Add(1) // under the lock: a drain waits for calls once the pool is closed
		run = append(run, t)
	}
	held := p.takeHeld()
	ready, moreQueued := p.waitingForSlots()
	p.mu.Unlock()
	p.account.Report(ready, moreQueued)
	for _, t := range run {
		p.begin(t)
	}
	p.releaseHeld(held)
	p.wake()
}

// dispatchNext offers a place that was freed to the pools whose tasks wait for one,
// by owner. It goes on until no place is left, and full then makes sure that the
// next one is offered too. One pool a place is woken to pull.
func (c *Consumer) dispatchNext() {
	for !c.capacity.full() {
		p := c.places.next()
		if p == nil {
			break
		}
		p.dispatchReady()
	}
	if pools := c.openPools(); len(pools) > 0 {
		pools[int(c.capacity.turn.Add(1))%len(pools)].wake()
	}
}

// dispatchAll looks at all pools, after a change that concerns all of them.
func (c *Consumer) dispatchAll() {
	for _, p := range c.openPools() {
		p.dispatchReady()
	}
}

// next takes the first ready task whose credential is not held, and for which its
// rate limits have something, and reserves its call, if there is one and it can
// be. Tasks that are held are set apart for takeHeld: they neither wait in others'
// places nor keep a slot. Those that wait for a rate keep no slot either. The
// caller holds the lock.
func (p *pool) next() *task {
	p.favourFewest()
	var gentle map[hold.Key]int // that wait until one more call may begin
	for i := 0; i < len(p.ready) && !p.closed; {
		t := p.ready[i]
		with := t.holdCall(t.credential)
		switch a := p.c.holds.Admit(with); {
		case a.Admitted:
			taken, rated := p.takeRate(t)
			if rated == rateOfOther {
				p.c.holds.Cancel(with, a)
				i++
				continue
			}
			if rated == rateOfModel || !p.reserve(t) {
				p.c.holds.Cancel(with, a)
				taken.cancel()
				return nil
			}
			t.permits, t.probe = taken, a.Probe
			p.takeReady(i)
			p.begins(t.start.Owner)
			p.payRate(t)
			p.c.called.Notify()
			return t
		case a.Refused:
			p.takeReady(i)
			p.held = append(p.held, heldTask{t, refusedPause + rand.N(refusedPause), true})
		case a.Wait > 0:
			p.takeReady(i)
			p.held = append(p.held, heldTask{t, a.Wait + rand.N(min(a.Wait, maxSpread)), false})
		case gentle[t.credential] > 2*a.Width:
			p.takeReady(i)
			p.held = append(p.held, heldTask{t, gentlePause + rand.N(gentlePause), false})
		default:
			if gentle == nil {
				gentle = make(map[hold.Key]int)
			}
			gentle[t.credential]++
			i++
		}
	}
	return nil
}

// reserve reserves a call, or has the pool on the list for a place.
func (p *pool) reserve(t *task) bool {
	for {
		switch p.c.capacity.reserve(p.account) {
		case reserved:
			return true
		case noSlot:
			return false
		case noPlace:
			p.c.places.wait(t.start.Owner, p)
			if p.c.capacity.full() {
				return false
			}
		}
	}
}

// promoted is how far from the head of the queue favourFewest looks.
const promoted = 32

// favourFewest puts the first task of the owner with the fewest calls of this pool
// at the head of the queue. What was fetched ahead for an owner whose calls take long
// would else be between another one's and the slots that free, which are few. Of one
// owner the order stays. The caller holds the lock.
func (p *pool) favourFewest() {
	if len(p.ready) < 2 {
		return
	}
	first, owner := 0, p.ready[0].start.Owner
	fewest := p.times.inUse(owner)
	for i := 1; i < min(len(p.ready), promoted) && fewest > 0; i++ {
		if other := p.ready[i].start.Owner; other != owner {
			if n := p.times.inUse(other); n < fewest {
				first, owner, fewest = i, other, n
			}
		}
	}
	if t := p.ready[first]; first > 0 {
		copy(p.ready[1:first+1], p.ready[:first])
		p.ready[0] = t
	}
}

// takeReady removes a task from the queue. The caller holds the lock.
func (p *pool) takeReady(i int) {
	if i > 0 {
		p.ready = slices.Delete(p.ready, i, i+1)
		return
	}
	p.ready[0] = nil
	p.ready = p.ready[1:]
}

// longCall is how long a call takes of which many may wait at once.
const longCall = time.Second

// work makes a call, and those after it as long as there are some: a goroutine
// that goes on has its stack already. Where calls are long they begin anew on a small
// one, since what an answer takes is more than what waiting for it does.
func (p *pool) work(t *task) {
	for t != nil {
		m := p.c.call(t)
		next := p.ended(t, m)
		if next != nil && m != nil && m.outcome.Elapsed >= longCall {
			p.c.calls.Add(1) // a drain waits for this one still
			p.begin(next)
			return
		}
		t = next
	}
}

// begin works on a task that is counted among the calls.
func (p *pool) begin(t *task) {
	go func() {
		defer p.c.calls.Done()
		p.work(t)
	}()
}

// ended hands on the outcome of a call, and returns the next task if one is ready.
func (p *pool) ended(t *task, m *made) *task {
	d, healthy, pause := p.c.conclude(t, m)
	owner := t.start.Owner
	p.c.holds.Done(t.holdCall(t.credential), healthy)
	if pause > 0 {
		p.c.finish(d)
		p.keepSlot(pause)
		return p.callDone(owner, true)
	}
	next := p.callDone(owner, false)
	p.c.finish(d)
	return next
}

// callDone frees the capacity of a call that has ended, or just its slot if its place
// is free already, and takes the next task if one is ready. The slot is freed before
// the result is stored: the limit counts calls, not writes.
func (p *pool) callDone(owner string, placeIsFree bool) *task {
	p.mu.Lock()
	now := time.Now()
	p.rate.add(now)
	p.times.end(owner, now)
	offer := false
	if placeIsFree {
		p.account.Release()
	} else {
		offer = p.c.capacity.free(p.account)
	}
	var t *task
	if !offer {
		t = p.next()
	}
	held := p.takeHeld()
	ready, moreQueued := p.waitingForSlots()
	p.mu.Unlock()
	p.account.Report(ready, moreQueued)
	if offer {
		p.c.dispatchNext() // other models waited for this consumer's capacity
	}
	p.releaseHeld(held)
	p.wake()
	return t
}

// releaseWaiting releases the tasks that wait here in vain: this daemon is due no
// slot of the model and others have them, or an operator paused it.
func (p *pool) releaseWaiting() {
	p.releaseRated()
	s := p.account.Standing()
	switch {
	case s.Paused:
		p.releaseReady(0) // to wait in the stream, without a lease
	case s.Allowed == 0 && s.Want > 0 && s.Share == 0:
		p.releaseReady(0)
	}
}

// close refuses messages from now on and releases those without a call.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.releaseReady(0)
}

func (p *pool) releaseReady(delay time.Duration) {
	p.mu.Lock()
	tasks := p.ready
	p.ready = nil
	p.c.calls.Add(len(tasks)) // so that a drain waits for these too
	p.mu.Unlock()
	for _, t := range tasks {
		p.c.release(t, delay)
		p.c.calls.Done()
	}
	if len(tasks) > 0 {
		p.account.Report(0, false)
	}
}

// abandonEnded drops the ready tasks that were found to have ended elsewhere.
func (p *pool) abandonEnded() {
	p.mu.Lock()
	var ended []*task
	rest := p.ready[:0]
	for _, t := range p.ready {
		if t.liveness() == postgres.Live {
			rest = append(rest, t)
		} else {
			ended = append(ended, t)
		}
	}
	clear(p.ready[len(rest):])
	p.ready = rest
	ready, moreQueued := len(rest), p.moreQueued
	p.mu.Unlock()
	for _, t := range ended {
		p.c.abandon(t)
	}
	if len(ended) > 0 {
		p.account.Report(ready, moreQueued)
	}
}
