package rate

import (
	"sync"
	"time"

	"fusillade/internal/batch"
)

// Account is one daemon's part of one limit. Its methods are safe for concurrent
// use, and none of them waits for the network.
type Account struct {
	key    string
	model  batch.Model // empty: the limit is a credential's
	daemon string
	wake   func(*Account) // the keeper may have something to do; it takes no lock that is held around an account's

	mu       sync.Mutex
	limit    batch.RateLimit
	lease    Amount
	until    time.Time // when the lease ends
	slice    int64     // of the lease in the entry, or an earlier one
	settled  map[int64]int64
	estimate estimator
	clock    clock
	wrote    written
	memory   Entry  // as it was last seen or written; only its keeper's sync uses it
	seen     uint64 // the revision of memory; as memory
	// short: a call has not begun for want of a lease since the last sync.
	short bool
	used  Amount    // of the last window, as last seen
	asked time.Time // when it was last of use

	complained time.Time // when a failure was last logged
}

// Permit is the right to one call.
type Permit struct {
	account *Account
	slice   int64
	tokens  int64 // that the call is taken to need
	raw     int64 // the same before the experience with others
}

// Take takes what a call needs that is estimated to use so many tokens. False:
// there is no lease for it; the keeper's Changed is called when there may be.
func (a *Account) Take(tokens int64) (Permit, bool) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = now
	if a.limit == (batch.RateLimit{}) {
		return Permit{}, true
	}
	p := Permit{account: a, slice: a.slice, raw: tokens, tokens: a.needed(tokens)}
	lacks := a.limit.Requests > 0 && a.lease.Requests < 1 || a.limit.Tokens > 0 && a.lease.Tokens < p.tokens
	if lacks || !now.Before(a.until) {
		if !a.short {
			a.short = true
			a.wake(a)
		}
		return Permit{}, false
	}
	a.lease = a.lease.minus(Amount{1, p.tokens})
	return p, true
}

// needed is what a call counts as; a.mu is held.
func (a *Account) needed(tokens int64) int64 {
	if a.limit.Tokens <= 0 {
		return 0
	}
	return min(max(a.estimate.of(tokens), 1), a.limit.Tokens)
}

// Tokens is what the call counts as.
func (p Permit) Tokens() int64 { return p.tokens }

// Cancel releases what no call was made with.
func (p Permit) Cancel() {
	if p.account == nil {
		return
	}
	a := p.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.slice == a.slice {
		a.lease = a.lease.plus(Amount{1, p.tokens})
		return
	}
	a.settle(p.slice, -p.tokens) // its one request is left as spent
}

// Settle corrects what was taken for a call by the tokens that its answer says it
// used; 0: it does not say, and the estimate stays.
func (p Permit) Settle(tokens int64) {
	if p.account == nil || p.tokens == 0 || tokens <= 0 {
		return
	}
	a := p.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.estimate.learn(p.raw, tokens)
	a.settle(p.slice, tokens-p.tokens)
}

// settle needs the lock.
func (a *Account) settle(slice, tokens int64) {
	if tokens == 0 {
		return
	}
	if a.settled == nil {
		a.settled = make(map[int64]int64)
	}
	a.settled[slice] += tokens
	if len(a.settled) > maxSlices { // the broker has been away for minutes
		for s := range a.settled {
			if s < slice-int64(maxSlices)/4 {
				delete(a.settled, s)
			}
		}
	}
}

// Estimate is what a call with so many tokens in its body is taken to need.
func (a *Account) Estimate(tokens int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.needed(tokens)
}

// Standing says how a limit stands.
type Standing struct {
	Limit batch.RateLimit
	Used  Amount // in the last minute by all daemons, as last seen here
}

// Standing returns the current numbers.
func (a *Account) Standing() Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Standing{a.limit, a.used}
}

// Typical is what a call is taken to need of which nothing is known.
func (a *Account) Typical() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit.Tokens <= 0 {
		return 0
	}
	return min(max(int64(a.estimate.size), 1), a.limit.Tokens)
}

// PerSecond is how many calls a second the limit lets pass if they are as large
// as those of late; 0: any number.
func (a *Account) PerSecond() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	requests := float64(a.limit.Requests)
	if a.limit.Tokens > 0 {
		by := float64(a.limit.Tokens) / max(a.estimate.size, 1)
		if requests == 0 || by < requests {
			requests = by
		}
	}
	return requests / window.Seconds()
}

// taken is what a sync has taken out of an account to write it.
type taken struct {
	kept    Amount
	slice   int64
	settled map[int64]int64
}

// take takes out what is to be written. Until it is put back or replaced, nothing
// can be spent.
func (a *Account) take() taken {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := taken{a.lease, a.slice, a.settled}
	a.lease, a.settled, a.short = Amount{}, nil, false
	return t
}

// restore puts back what was not written. doubtful: it may have been written all
// the same; then nothing is put back that could be counted twice in the daemon's
// favour.
func (a *Account) restore(t taken, doubtful bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !doubtful {
		a.lease = a.lease.plus(t.kept)
	}
	for slice, tokens := range t.settled {
		if tokens > 0 || !doubtful {
			a.settle(slice, tokens)
		}
	}
}

// written is a revision that the daemon wrote, and when it knew.
type written struct {
	revision uint64
	at       time.Time
}

// leased takes over a lease that was written after the given moment, when the
// broker's clock was not before the given time.
func (a *Account) leased(lease Amount, began, at time.Time, revision uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrote = written{revision, time.Now()}
	a.lease, a.until, a.slice = lease, began.Add(validity), sliceAt(at.Add(validity))
}

// busy reports whether a sync has something to do.
func (a *Account) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.short || a.lease != (Amount{}) || len(a.settled) > 0
}

// apply writes what was taken into an entry that was folded, grants what is
// asked for, and reports whether there is anything to write.
func (t taken) apply(e *Entry, now time.Time, l batch.RateLimit, daemon string, demand []int64) (lease Amount, write bool) {
	for slice, tokens := range t.settled {
		e.add(slice, Amount{Tokens: tokens})
		e.Paced.Tokens += tokens
	}
	e.add(t.slice, Amount{-t.kept.Requests, -t.kept.Tokens})
	e.trim(now) // what was corrected is gone together with its correction
	had := e.Turn != nil && e.Turn.Daemon == daemon
	lease = e.grant(now, l, daemon, demand, t.kept)
	has := e.Turn != nil && e.Turn.Daemon == daemon
	return lease, lease != (Amount{}) || t.kept != (Amount{}) || len(t.settled) > 0 || had || has
}
