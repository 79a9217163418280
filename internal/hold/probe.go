package hold

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

const (
	defaultProbe    = 5 * time.Second
	defaultMaxProbe = time.Minute
	// offerPause is how long a dispatcher waits before it claims another request
	// that may become the probe. It doubles up to maxNudge how often lanes are
	// told that a probe is due.
	offerPause = 2 * time.Second
	maxNudge   = 30 * time.Second
)

// probe is one process's part in the probes of a hold with a Cause. A probe is a
// call that is made although calls are held. One in the whole cluster begins in
// each interval: it needs the token of the interval, which the process gets that
// moves the entry's Until to the end of the next interval by compare-and-set.
//
// A crash between that and the call leaves an interval without a probe.
type probe struct {
	wanted bool // a call waits for the token
	token  bool // the next call admitted is the probe
	taken  bool // by a call that is not made yet, or is in flight

	offered map[batch.Model]time.Time // when a dispatcher last claimed for it
	nudged  time.Time                 // when others were last told that it is due
	pause   time.Duration             // to the next time
}

// probePause is the time between a probe and the next one, after so many.
func (r *Registry) probePause(probes int) time.Duration {
	pause := r.cfg.Probe
	for ; probes > 0 && pause < r.cfg.MaxProbe; probes-- {
		pause *= 2
	}
	return min(pause, r.cfg.MaxProbe)
}

// wantProbe asks for the token. It needs the lock.
func (r *Registry) wantProbe(s *state) {
	if !s.probe.wanted {
		s.probe.wanted = true
		r.wake.Notify()
	}
}

// probeAlone takes the token of a hold of this process alone. It needs the lock.
func (r *Registry) probeAlone(s *state, now time.Time) {
	s.hold.Probes++
	s.hold.Until = now.Round(0).Add(r.probePause(s.hold.Probes))
	s.probe.token = true
}

// takeProbes takes the tokens of holds, and reports whether there were any. It
// needs the lock, as returnProbes does.
func (r *Registry) takeProbes(keys []Key) (any bool) {
	for _, k := range keys {
		if s := r.states[k]; s != nil && !s.over && s.probe.token {
			s.probe.token, s.probe.taken, any = false, true, true
		}
	}
	return any
}

func (r *Registry) returnProbes(keys []Key) {
	for _, k := range keys {
		if s := r.states[k]; s != nil && !s.over && s.probe.taken {
			s.probe.token, s.probe.taken = true, false
		}
	}
}

// TakeOffer reports whether a dispatcher may now claim a request of the model for
// the probe of a hold. Consumers decide which one becomes it; the others wait in
// Postgres again.
func (r *Registry) TakeOffer(k Key, model batch.Model) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.states[k]
	now := time.Now()
	if s == nil || s.over || now.Sub(s.probe.offered[model]) < offerPause {
		return false
	}
	if s.probe.offered == nil {
		s.probe.offered = make(map[batch.Model]time.Time)
	}
	s.probe.offered[model] = now
	return true
}

// expireRefused forgets a hold that nobody probes, and reports whether others are
// to look again because a probe is due. It needs the lock.
func (r *Registry) expireRefused(k Key, s *state, now time.Time) (changed bool) {
	switch {
	case !s.hold.alive(now):
		r.remove(k)
		return true
	case s.hold.Until.After(now):
		s.probe.pause = 0
		return false
	case now.Sub(s.probe.nudged) < s.probe.pause:
		return false
	}
	s.probe.nudged, s.probe.pause = now, min(max(2*s.probe.pause, offerPause), maxNudge)
	return true
}

// observeRefused takes over the entry of a hold that is known. It needs the lock.
func (r *Registry) observeRefused(s *state, h Hold, now time.Time) {
	merged := h.merge(s.hold) // for the models
	h.Models = merged.Models
	s.published = h.Until
	if s.probe.token && h.Until.Equal(s.hold.Until) {
		return // it is our own
	}
	s.hold, s.local = h, false
	if h.Until.After(now) {
		s.probe.wanted = false
	}
}

// removeEntry removes what was lifted from the bucket.
func (r *Registry) removeEntry(ctx context.Context, k Key) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	// A purge tells others that an answer lifted it; operators delete it.
	if err := r.kv.Purge(ctx, string(k)); err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
		return err
	}
	r.mu.Lock()
	delete(r.lifting, k)
	r.mu.Unlock()
	return nil
}

// acquireProbe gets the token of the interval, unless another process has it.
func (r *Registry) acquireProbe(ctx context.Context, k Key) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	known := r.revisions()[k]
	next, revision, mine, err := r.moveProbe(ctx, k)
	gone := errors.Is(err, jetstream.ErrKeyNotFound)
	if err != nil && !gone {
		return err // it is still wanted
	}
	answered := false
	if gone {
		if revision, answered, err = r.removal(ctx, k); err != nil {
			return err
		}
	}
	r.mu.Lock()
	if s := r.states[k]; s != nil && !s.over {
		s.probe.wanted = false
		if !gone && revision >= s.revision {
			next.Models = s.hold.merge(next).Models
			s.hold, s.published, s.revision, s.probe.token = next, next.Until, revision, mine
		}
	}
	r.mu.Unlock()
	if gone {
		r.lifted(k, cmp.Or(revision, known), answered) // or not written yet, which lifted knows
		return nil
	}
	r.cfg.Changed()
	return nil
}

// removal is what removed the entry of a key; 0: the bucket knows nothing of it.
func (r *Registry) removal(ctx context.Context, k Key) (revision uint64, answered bool, err error) {
	history, err := r.kv.History(ctx, string(k))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	last := history[len(history)-1]
	if last.Operation() == jetstream.KeyValuePut {
		return 0, false, jetstream.ErrKeyExists // it is placed again
	}
	return last.Revision(), last.Operation() == jetstream.KeyValuePurge, nil
}

// moveProbe moves the entry to the next interval, which gives the token of this one.
// It returns the entry as it is then, and its revision.
func (r *Registry) moveProbe(ctx context.Context, k Key) (h Hold, revision uint64, mine bool, err error) {
	for {
		current, err := r.kv.Get(ctx, string(k))
		if err != nil {
			return h, 0, false, err
		}
		if h, err = decode(current, r.brokerAhead()); err != nil {
			return h, 0, false, err
		}
		now := time.Now().Round(0)
		if h.Until.After(now) {
			return h, current.Revision(), false, nil
		}
		h.Probes++
		h.Until = now.Add(r.probePause(h.Probes))
		revision, err = r.kv.Update(ctx, string(k), h.encode(now), current.Revision())
		if !streams.LostRace(err) { // else another process was faster
			return h, revision, err == nil, err
		}
	}
}
