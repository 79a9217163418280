package consume

import (
	"context"
	"time"

	"fusillade/streams"
)

const (
	// callTimesInterval is the pause between two hints about call times while calls
	// are made; callTimesPause is added for each of what the last one was about.
	callTimesInterval = 250 * time.Millisecond
	callTimesPause    = time.Millisecond
	// callTimesPage bounds what one message says.
	callTimesPage = 256
)

// slotTime is how long the calls of one owner to one model have kept slots busy
// since that was last said.
type slotTime struct {
	inUse int // slots
	calls int // that began
	busy  time.Duration
	// paid is what the calls that began take of the model's rate limit, as the time
	// of slots in which the limit would let as much pass.
	paid  time.Duration
	since time.Time // to when busy is counted
	// places are those of the owner in all pools; nil only in tests.
	places *ownerPlaces
}

func (s *slotTime) count(now time.Time) {
	s.busy += time.Duration(s.inUse) * now.Sub(s.since)
	s.since = now
}

// slotTimes are those of a model's owners. The holder of the pool's lock uses them.
type slotTimes map[string]*slotTime

func (s slotTimes) begin(owner string, now time.Time) *slotTime {
	t := s[owner]
	if t == nil {
		t = new(slotTime)
		s[owner] = t
	}
	t.count(now)
	t.inUse++
	t.calls++
	return t
}

// begins counts a call that begins. The caller holds the lock.
func (p *pool) begins(owner string) {
	t := p.times.begin(owner, time.Now())
	if t.places == nil {
		t.places = p.c.places.open(owner)
	}
	t.places.inUse.Add(1)
}

// inUse is how many slots the owner's calls have.
func (s slotTimes) inUse(owner string) int {
	if t := s[owner]; t != nil {
		return t.inUse
	}
	return 0
}

// pay counts what a call takes of the model's rate limit.
func (s slotTimes) pay(owner string, paid time.Duration) {
	if t := s[owner]; t != nil {
		t.paid += paid
	}
}

func (s slotTimes) end(owner string, now time.Time) {
	if t := s[owner]; t != nil {
		t.count(now)
		t.inUse--
		if t.places != nil {
			t.places.inUse.Add(-1)
		}
	}
}

// takeCallTimes adds what is to be said about the pool's calls, and forgets it. It
// reports whether calls are in flight.
func (p *pool) takeCallTimes(times []streams.CallTime, now time.Time) (_ []streams.CallTime, inFlight bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for owner, t := range p.times {
		t.count(now)
		if t.calls > 0 || t.busy > 0 {
			// What the model is short of decides: slots, or its rate.
			slots := max(t.busy, t.paid)
			times = append(times, streams.CallTime{Model: p.account.Model(), Owner: owner, Calls: t.calls, Slots: slots})
		}
		t.calls, t.busy, t.paid = 0, 0, 0
		if t.inUse == 0 {
			delete(p.times, owner)
			if t.places != nil {
				p.c.places.close(t.places)
			}
		}
		inFlight = inFlight || t.inUse > 0
	}
	return times, inFlight
}

// hintCallTimes tells the dispatchers how long the calls of each owner take, while
// there are any. It polls nothing while there are none.
func (c *Consumer) hintCallTimes(ctx context.Context) error {
	var times []streams.CallTime
	for inFlight := false; ; {
		if !inFlight {
			select {
			case <-ctx.Done():
				return nil
			case <-c.called.C():
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(callTimesInterval + time.Duration(len(times))*callTimesPause):
		}
		times, inFlight = times[:0], false
		now := time.Now()
		for _, p := range c.openPools() {
			var busy bool
			times, busy = p.takeCallTimes(times, now)
			inFlight = inFlight || busy
		}
		for rest := times; len(rest) > 0; {
			page := rest[:min(len(rest), callTimesPage)]
			rest = rest[len(page):]
			body, err := streams.EncodeCallTimes(page)
			if err == nil {
				err = c.cfg.Conn.Publish(streams.HintCallTimes, body)
			}
			if err != nil { // the next one says what is new then
				c.cfg.Log.Debug("telling the dispatchers of call times", "err", err)
			}
		}
	}
}
