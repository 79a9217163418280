package hold

import (
	"time"

	"fusillade/internal/batch"
)

// scopes are those of refusals.
var scopes = [...]batch.RefusalScope{batch.ScopeCredential, batch.ScopeModel, batch.ScopeOwner}

// maxStreaks bounds what is remembered of refusals that place no hold: beyond it
// some are counted anew.
const maxStreaks = 10_000

// relapseTime is for how long the refusals of a process whose hold was lifted by an
// answer to another one are taken for its own fault: it has no network, an old
// key, or no certificate of the authority.
const relapseTime = 10 * time.Minute

// streak counts the refusals of calls with nothing else between them.
type streak struct {
	n     int
	since time.Time // when the first of them ended
}

// Refusal is what a call was refused for.
type Refusal struct {
	Cause  batch.RefusalCause
	Status int    // of the answer; 0: there was none
	Detail string // for operators
	// Before is how many refusals of the same request count beside those that this
	// process has seen: with a single request the processes take turns.
	Before int
}

// Refused counts a call that was refused, and places a hold if it is one too many.
// It reports whether calls like it are held, and else how many of this scope
// were refused in a row.
func (r *Registry) Refused(c Call, refusal Refusal) (held bool, inARow int) {
	if r.cfg.After == 0 {
		return false, 0
	}
	now := time.Now().Round(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, scope := range scopes {
		if s := r.states[c.key(scope)]; s != nil && !s.over && s.hold.Cause != "" {
			return true, 0
		}
	}
	info := refusal.Cause.Info()
	k := c.key(info.Scope)
	s, known := r.streaks[k]
	if !known {
		s.since = now
	}
	if s.n++; max(s.n, refusal.Before) < r.cfg.After {
		r.remember(k, s)
		return false, s.n
	}
	delete(r.streaks, k)
	h := Hold{
		Models: []batch.Model{c.Model}, Batch: c.Batch, Status: refusal.Status, Since: s.since, Until: now.Add(r.probePause(0)),
		Cause: refusal.Cause, Detail: refusal.Detail, Calls: max(s.n, refusal.Before),
	}
	if info.Scope == batch.ScopeOwner {
		h.Owner = c.Owner
	}
	local := now.Sub(r.relapsed[k]) < relapseTime
	what := "calls are held: the endpoint refuses every one"
	if local {
		what = "calls are held in this process alone: the endpoint refuses every one, and answers others'"
	}
	r.cfg.Log.Warn(what, "model", c.Model, "cause", h.Cause, "detail", h.Detail,
		"refusals", h.Calls, "own_key_of_batch", batchName(h.Batch), "next_probe", h.Until.UTC())
	delete(r.lifting, k)
	r.add(k, &state{hold: h, mine: true, local: local})
	if !local {
		r.publish(k, h, true)
	}
	return true, h.Calls
}

// relapse needs the lock.
func (r *Registry) relapse(k Key, now time.Time) {
	if len(r.relapsed) >= maxStreaks {
		clear(r.relapsed)
	}
	r.relapsed[k] = now
}

// Rests reports whether this process alone holds the calls of a model, and should
// leave its requests to others until the next probe.
func (r *Registry) Rests(model batch.Model) bool {
	if r.active.Load() == 0 {
		return false
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.states {
		if s.local && !s.over && s.hold.Batch == (batch.ID{}) && s.hold.Owner == "" && s.hold.Until.After(now) && s.hold.Of(model, batch.ID{}, false, "") {
			return true
		}
	}
	return false
}

// remember needs the lock.
func (r *Registry) remember(k Key, s streak) {
	if len(r.streaks) >= maxStreaks {
		for other := range r.streaks {
			delete(r.streaks, other)
			break
		}
	}
	r.streaks[k] = s
	r.count()
}

// Answered says that a call got an answer that is no refusal. It ends the streaks
// that the call belongs to, and lifts what holds calls like it, in every
// process; of a hold that is younger than the call, only if it was a probe.
func (r *Registry) Answered(c Call, began time.Time, probe bool) {
	if r.doubts.Load() == 0 {
		return
	}
	now, lifted := time.Now(), false
	r.mu.Lock()
	for _, scope := range scopes {
		delete(r.streaks, c.key(scope))
		delete(r.relapsed, c.key(scope))
	}
	for k, s := range r.states {
		// Also what was placed for another endpoint or key of the model, which is not
		// called any more, or only by processes that have an old one.
		if s.over || s.hold.Cause == "" || !probe && !began.After(s.hold.Since) ||
			!s.hold.Of(c.Model, c.Batch, c.Batch != batch.ID{}, c.Owner) {
			continue
		}
		r.cfg.Log.Info("calls go on: the endpoint answers again", "models", s.hold.Models, "cause", s.hold.Cause,
			"own_key_of_batch", batchName(s.hold.Batch), "held_for", now.Sub(s.hold.Since).Round(time.Second).String())
		delete(r.pending, k)
		r.lifting[k] = true // a crash before leaves the entry, and the next probe removes it
		r.end(k, s, now)
		lifted = true
	}
	r.count()
	r.mu.Unlock()
	if lifted {
		r.wake.Notify()
		r.cfg.Changed()
	}
}
