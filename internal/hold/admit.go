package hold

import (
	"slices"
	"time"

	"fusillade/internal/batch"
)

// Admission is the answer of Admit.
type Admission struct {
	// Admitted: a call may begin, and Done must follow it.
	Admitted bool
	// Wait is, if it is not admitted, how long the credential is held. 0: its hold
	// is over, and calls begin gently; Changed is called when one more may.
	Wait time.Duration
	// Width is then how many calls may be in flight.
	Width int
	// Refused: it is held for what a person must mend, and for how long is not known.
	Refused bool
	// Probe: the admitted call is one that finds out whether it is mended.
	Probe bool
}

// Admit asks whether a call may begin now.
func (r *Registry) Admit(c Call) Admission {
	if r.active.Load() == 0 {
		return Admission{Admitted: true}
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, n := r.keys(c)
	for i, k := range keys[:n] {
		a := r.admit(k, c.Model, now)
		if !a.Admitted {
			r.cancel(keys[:i])
			return a
		}
	}
	return Admission{Admitted: true, Probe: r.takeProbes(keys[:n])}
}

// keys are those of the holds that may be of a call. It needs the lock.
func (r *Registry) keys(c Call) (keys [4]Key, n int) {
	keys[0] = c.Credential
	if r.refused == 0 {
		return keys, 1
	}
	for i, scope := range scopes {
		keys[i+1] = c.key(scope)
	}
	return keys, 1 + len(scopes)
}

// admit asks one hold. It needs the lock.
func (r *Registry) admit(k Key, model batch.Model, now time.Time) Admission {
	s := r.states[k]
	switch {
	case s == nil:
		return Admission{Admitted: true}
	case s.over, s.probe.token:
	case s.hold.Until.After(now):
		// The dispatcher must know of every model that is held.
		if !slices.Contains(s.hold.Models, model) && len(s.hold.Models) < maxModels {
			s.hold.Models = append(slices.Clone(s.hold.Models), model)
			r.publish(k, s.hold, false)
		}
		return Admission{Wait: s.hold.Until.Sub(now), Refused: s.hold.Cause != ""}
	case s.local:
		r.probeAlone(s, now)
	case s.hold.Cause != "":
		r.wantProbe(s)
		return Admission{Width: 1}
	default:
		r.end(k, s, now)
	}
	if s.over && !s.ramp.admit() {
		return Admission{Width: s.ramp.width}
	}
	return Admission{Admitted: true}
}

// Done says that an admitted call has ended, or that it was not made.
func (r *Registry) Done(c Call, succeeded bool) {
	if r.active.Load() == 0 {
		return
	}
	r.mu.Lock()
	changed := false
	keys, n := r.keys(c)
	for _, k := range keys[:n] {
		s := r.states[k]
		if s == nil || !s.over {
			continue
		}
		if s.ramp.done(succeeded) {
			r.remove(k)
		}
		changed = true
	}
	r.mu.Unlock()
	if changed {
		r.cfg.Changed()
	}
}

// Cancel takes back an admission: the call is not made now.
func (r *Registry) Cancel(c Call, a Admission) {
	if r.active.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, n := r.keys(c)
	r.cancel(keys[:n])
	if a.Probe {
		r.returnProbes(keys[:n])
	}
}

// cancel needs the lock.
func (r *Registry) cancel(keys []Key) {
	for _, k := range keys {
		if s := r.states[k]; s != nil && s.over {
			s.ramp.done(false)
		}
	}
}
