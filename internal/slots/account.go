package slots

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/notify"
)

// Account is one daemon's slots of one model. All methods are safe for
// concurrent use and none of them waits for the network.
type Account struct {
	model    batch.Model
	daemon   string
	capacity int           // calls this daemon can run at most
	changed  func()        // called, without the lock, when more may be acquired
	gone     func()        // called once, without the lock, when the model was retired
	wake     notify.Signal // to the keeper's goroutine: settle may have something to do
	// escalation is the entry's, for those who ask with every request; nil: none.
	escalation atomic.Pointer[batch.Escalation]
	// rate is the same of the rate limit.
	rate   atomic.Pointer[batch.RateLimit]
	meter  meter         // of an automatic limit
	urgent notify.Signal // to the keeper: the endpoint has too much

	mu       sync.Mutex
	entry    Entry
	share    int // of the daemon, by the entry
	revision uint64
	allowed  int // calls that may be in flight; never more than what the bucket says is held
	target   int // what the last plan allows once it is written
	// pending is the revision that a write replaces whose outcome is unknown;
	// 0: none is. Until a later revision is seen, what it lowered may be another's.
	pending    uint64
	inUse      int
	parked     []time.Time // slots of calls that were refused at once are not used again until then
	restoring  bool        // a new bucket does not know yet of the calls in flight
	quiet      time.Time   // no slot is taken until then
	ready      int         // requests that wait here for a slot
	moreQueued bool        // more wait in the stream
	closed     bool

	peak, lastPeak int       // highest need in this and the last window
	window         time.Time // when this window began
	pressed        time.Time // when work last waited for a slot with more queued behind it
	asked          time.Time // when it last asked for a slot without having work
}

const (
	// peakWindow is how long a slot stays unused before it is released.
	peakWindow = time.Second
	// contendedWindow is the same while another daemon waits for slots.
	contendedWindow = 50 * time.Millisecond
	// A daemon without work asks for one slot while others have more queued, so
	// that the next messages come to it too: so often, and it keeps the slot
	// for so long if none comes.
	askInterval = 2 * time.Second
	askWindow   = 250 * time.Millisecond
)

// Model is the model whose slots these are.
func (a *Account) Model() batch.Model { return a.model }

// Escalation is where the model's requests go when little time is left; nil:
// nowhere else. It waits for no lock.
func (a *Account) Escalation() *batch.Escalation { return a.escalation.Load() }

// Rate is the model's rate limit; nil: there is none. It waits for no lock.
func (a *Account) Rate() *batch.RateLimit { return a.rate.Load() }

// Acquire takes a slot for one call. False means that none is free; OnChange's
// callback says when to try again.
func (a *Account) Acquire() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entry.Paused {
		return false
	}
	if a.inUse+len(a.parked) >= a.allowed {
		a.meter.full()
		return false
	}
	a.inUse++
	a.peak = max(a.peak, a.inUse+a.ready)
	return true
}

// Release frees the slot of a call that has ended.
func (a *Account) Release() {
	a.mu.Lock()
	a.inUse--
	lowering := a.allowed < a.entry.Holders[a.daemon].Held && a.inUse <= a.allowed
	last := a.inUse == 0 && a.entry.Model == ""
	a.mu.Unlock()
	if lowering || last {
		a.wake.Notify()
	}
}

// Report says how many requests wait here for a slot, and whether more wait
// in the stream.
func (a *Account) Report(ready int, moreQueued bool) {
	a.mu.Lock()
	a.ready, a.moreQueued = ready, moreQueued
	need := a.inUse + ready
	a.peak = max(a.peak, need)
	short := need > a.allowed && a.entry.Holders[a.daemon].Want < min(max(need, a.capacity), a.entry.Limit)
	a.mu.Unlock()
	if short {
		a.wake.Notify()
	}
}

// Standing says how the daemon stands with this model.
type Standing struct {
	Limit   int // of the whole cluster
	Held    int // slots it holds of them
	Allowed int // calls it may have in flight
	InUse   int
	Free    int  // slots that nobody holds
	Share   int  // what it would hold if every daemon released what is beyond its share
	Want    int  // slots that it has asked for; its Share knows of no others
	Paused  bool // no call may begin until an operator resumes the model
	// Automatic says that the limit is found while it runs.
	Automatic bool
}

// Standing returns the current numbers.
func (a *Account) Standing() Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.entry.Holders[a.daemon]
	return Standing{
		Limit: a.entry.Limit, Held: held.Held, Allowed: a.allowed, InUse: a.inUse,
		Free:  max(a.entry.Limit-a.entry.others(a.daemon)-held.Held, 0),
		Share: a.share, Want: held.Want,
		Paused: a.entry.Paused, Automatic: a.entry.Auto != nil,
	}
}

// observe takes over what the bucket says. Older news than what is known is
// ignored.
func (a *Account) observe(e Entry, revision uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if revision <= a.revision {
		return
	}
	a.learn(e, revision)
	a.escalation.Store(nil)
	if to := e.Settings().Escalation; to.Model != "" {
		a.escalation.Store(&to)
	}
	a.rate.Store(nil)
	if limit := e.Settings().Rate; limit != (batch.RateLimit{}) {
		a.rate.Store(&limit)
	}
	// Another daemon may have dropped this one as dead.
	a.allowed = min(a.allowed, e.Holders[a.daemon].Held)
}

// learn takes over an entry. The lock is held.
func (a *Account) learn(e Entry, revision uint64) {
	if len(a.parked) > 0 && (e.Auto == nil || a.entry.Auto == nil || e.Auto.CutEpoch != a.entry.Auto.CutEpoch) {
		a.parked = nil // the limit is lower now
	}
	a.meter.observe(e.Auto, time.Now())
	a.entry, a.share, a.revision, a.pending = e, e.share(a.daemon), revision, 0
	a.restoring = a.restoring && a.inUse > e.Holders[a.daemon].Held
}

// plan decides what to write, if anything. Where it lowers, the new number is
// in force before it is written, so that the sum holds whatever happens to the
// write; where it raises, only what was written is in force. In a new bucket,
// calls that were in flight before are held whatever the limit is, and until a
// dispatcher has made an entry it is made here, with a limit of zero.
func (a *Account) plan(now time.Time, dead map[string]bool) (next Entry, revision uint64, write bool) {
	a.mu.Lock()
	entry := a.entry
	a.restoring = a.restoring && a.inUse > 0
	if a.restoring && entry.Model == "" {
		entry.Model = a.model
	}
	for id := range dead {
		if _, ok := entry.Holders[id]; ok && id != a.daemon {
			entry, write = entry.with(id, Holder{}), true
		}
	}
	before := entry.Holders[a.daemon]
	want := a.want(now, entry)
	if entry.Limit > 0 { // to want more than there are changes nothing but the entry
		want = min(want, entry.Limit)
	}
	open := entry
	if now.Before(a.quiet) { // the bucket went back in time
		open.Limit = 0
	}
	after, target := open.settle(a.daemon, want, a.inUse)
	if a.restoring && after.Held < a.inUse {
		after.Held, write = a.inUse, true
	}
	lower := target < before.Held && a.worthLowering(entry, before, target, after.Want)
	inDoubt := a.pending != 0
	write = write || inDoubt || after.Held > before.Held || after.Want > before.Want ||
		after != before && (lower || after.Want <= before.Want*3/4)
	write = write && (a.revision != 0 || a.restoring) && entry.Model != "" // else there is no entry
	write = write && !now.Before(a.quiet.Add(-RestoredAfter))

	allowed := before.Held
	a.target = after.Held
	if lower {
		a.target = target
	}
	if write || lower {
		allowed = min(allowed, a.target)
	}
	if inDoubt {
		allowed = min(allowed, a.allowed)
	}
	if write {
		a.pending = a.revision
	}
	raised := allowed > a.allowed
	a.allowed = allowed
	next, revision = entry.with(a.daemon, after), a.revision
	a.mu.Unlock()
	if raised {
		a.changed()
	}
	return next, revision, write
}

// worthLowering spares the bucket small and short-lived changes.
func (a *Account) worthLowering(e Entry, before Holder, target, want int) bool {
	short, _ := e.othersShort(a.daemon)
	return short || e.Held() > e.Limit || target == 0 || want <= before.Want*3/4
}

// want is how many calls this daemon would run: all it can while it has a
// more queued, else the most that it needed of late.
func (a *Account) want(now time.Time, e Entry) int {
	if a.closed {
		return 0
	}
	short, queuedElsewhere := e.othersShort(a.daemon)
	need := a.inUse + a.ready
	if a.ready > 0 && a.moreQueued && a.inUse >= a.allowed {
		a.pressed = now
	}
	window := peakWindow
	if short {
		window = contendedWindow
	}
	if now.Sub(a.window) >= window {
		a.lastPeak, a.peak, a.window = a.peak, need, now
	}
	if now.Sub(a.pressed) < window || (a.moreQueued && need > 0 && need >= a.allowed) {
		return max(min(a.capacity, e.Limit), need)
	}
	recent := max(a.peak, a.lastPeak, need)
	if recent == 0 && queuedElsewhere && now.Sub(a.asked) >= askInterval &&
		e.with(a.daemon, Holder{Want: 1}).share(a.daemon) > 0 {
		a.asked = now
	}
	if now.Sub(a.asked) < askWindow {
		return max(recent, 1)
	}
	return recent
}

// applied takes over an entry from plan that was written.
func (a *Account) applied(e Entry, revision uint64) {
	a.mu.Lock()
	if revision <= a.revision { // the watch was faster, and has later news
		a.mu.Unlock()
		a.wake.Notify()
		return
	}
	a.learn(e, revision)
	allowed := min(e.Holders[a.daemon].Held, a.target)
	raised := allowed > a.allowed && !a.closed
	if !a.closed {
		a.allowed = allowed
	}
	a.mu.Unlock()
	if raised {
		a.changed()
	}
}

// close stops handing out slots. settled reports whether all were released.
func (a *Account) close() {
	a.mu.Lock()
	a.closed, a.allowed = true, 0
	a.mu.Unlock()
	a.wake.Notify()
}

// unpark frees the slots of calls that were refused a while ago.
func (a *Account) unpark(now time.Time) {
	a.mu.Lock()
	before := len(a.parked)
	a.parked = slices.DeleteFunc(a.parked, func(until time.Time) bool { return !until.After(now) })
	freed := len(a.parked) < before
	a.mu.Unlock()
	if freed {
		a.changed()
	}
}

func (a *Account) settled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, holds := a.entry.Holders[a.daemon]
	return !holds && a.pending == 0 && !a.restoring
}

// removed takes over that the bucket has no entry at this revision. An entry that
// was never seen in this bucket may still be made, by this daemon too.
func (a *Account) removed(revision uint64) {
	a.mu.Lock()
	known := a.revision != 0
	a.mu.Unlock()
	if known {
		a.observe(Entry{}, revision)
		a.wake.Notify()
	}
}

// retired reports whether the model's entry was removed from the bucket, and
// nothing of it is left here.
func (a *Account) retired() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revision != 0 && a.entry.Model == "" && a.inUse == 0 && a.pending == 0 && !a.restoring
}

// nextLook is how long nothing needs to be done for the account unless it is
// woken: it holds nothing and nothing waits here.
func (a *Account) nextLook() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, holds := a.entry.Holders[a.daemon]
	switch {
	case holds || a.inUse > 0 || time.Now().Before(a.quiet) || a.ready > 0 || a.pending != 0 || a.restoring || a.closed:
		return settleInterval
	case len(a.entry.Holders) > 0: // it may ask for a slot, or find their holders dead
		return deathInterval
	}
	return idleInterval
}

// forget drops what is known of a bucket that is no more. Calls in flight are
// entered into the new one.
//
// No slot is taken until quiet.
func (a *Account) forget(quiet time.Time) {
	a.mu.Lock()
	a.quiet = quiet
	a.entry, a.share, a.revision, a.pending, a.allowed = Entry{}, 0, 0, 0, 0
	a.restoring = a.inUse > 0
	a.mu.Unlock()
	a.wake.Notify()
}

// short reports whether this daemon would have more slots if others had none.
func (a *Account) short() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	mine, holds := a.entry.Holders[a.daemon]
	if len(a.entry.Holders) == 0 || holds && len(a.entry.Holders) == 1 {
		return false
	}
	// Without a slot and with none free it does not even look for work.
	idle := a.allowed == 0 && a.entry.others(a.daemon) >= a.entry.Limit
	return idle || max(a.inUse+a.ready, mine.Want) > a.allowed
}
