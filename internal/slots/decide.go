package slots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/streams"
)

// Automatic limits are decided by one daemon for each model, the decider, which the
// entry names. Daemons add up the outcomes of their calls and tell the decider, once
// per reportInterval; it feeds a controller of internal/adaptive and writes what that
// decides into the entry, by compare-and-set, with the number of the decision: a
// write applies only if the daemon is still the decider and nobody decided since. So
// there may be two who think that they decide, and one whose decisions count.

const (
	reportInterval = 250 * time.Millisecond
	// rateMemory is how long throughput is averaged, in seconds.
	rateMemory = 10
)

// decider decides about one model.
type decider struct {
	model      batch.Model
	controller *adaptive.Controller
	epoch      uint64 // of the entry that it goes on from
	cut        uint64
	heard      news // since the last step
	stepped    time.Time
	calls      float64 // per second
	tokens     float64
}

// decisions is the keeper's part for automatic limits. Its fields are owned by
// decide, but for inbox.
type decisions struct {
	deciders map[string]*decider // by key: models that this daemon decides about
	silent   map[string]int      // by daemon: reports that went unanswered

	mu    sync.Mutex
	inbox []report // of other daemons

	urgent notify.Signal // somebody has news of congestion
	begins notify.Signal // there may be a limit to decide about, or the keeper closes
}

// decide reports the outcomes of calls, and decides about the limits that are this
// daemon's to decide, until ctx ends.
func (k *Keeper) decide(ctx context.Context) error {
	d := &k.decisions
	subscription, err := k.cfg.Conn.Subscribe(streams.HintOutcomes(k.cfg.Daemon), k.heard)
	if err != nil {
		return fmt.Errorf("listening for outcomes of calls: %w", err)
	}
	defer func() { _ = subscription.Unsubscribe() }()
	tick := time.NewTimer(0)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-d.begins.C():
			if time.Since(last) < reportInterval {
				continue // at the next tick
			}
		case <-d.urgent.C():
			if wait := urgentInterval - time.Since(last); wait > 0 {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(wait):
				}
			}
		}
		if k.leaving() && subscription.IsValid() {
			_ = subscription.Unsubscribe() // another one decides
		}
		last = time.Now()
		k.report(ctx)
		k.decideAll(ctx, last)
		if k.decides() {
			tick.Reset(reportInterval)
		}
	}
}

// decides reports whether there is a limit to decide about, or was.
func (k *Keeper) decides() bool {
	d := &k.decisions
	d.mu.Lock()
	heard := len(d.inbox)
	d.mu.Unlock()
	return heard+len(d.deciders)+len(k.autos()) > 0
}

func (k *Keeper) leaving() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closing
}

// decideAll takes what was heard, and decides.
func (k *Keeper) decideAll(ctx context.Context, now time.Time) {
	d := &k.decisions
	d.mu.Lock()
	inbox := d.inbox
	d.inbox = nil
	d.mu.Unlock()
	autos := k.autos()
	for key := range d.deciders {
		if a := autos[key]; a == nil || a.decider() != k.cfg.Daemon.String() {
			k.measured.forget(d.deciders[key].model)
			delete(d.deciders, key)
		}
	}
	for _, r := range inbox {
		key := streams.Token(r.Model)
		a := autos[key]
		if a == nil || a.decider() != k.cfg.Daemon.String() {
			continue // it will hear from whom
		}
		of := d.deciders[key]
		if of == nil {
			of = newDecider(a, now)
			d.deciders[key] = of
		}
		of.hear(r.news)
	}
	for key, of := range d.deciders {
		if !of.heard.busy() {
			of.stepped = now // without calls there is nothing to learn
			continue
		}
		if now.Sub(of.stepped) >= reportInterval*4/5 || of.heard.Congested > 0 {
			k.step(ctx, key, autos[key], of, now)
		}
	}
}

// newDecider goes on from the entry.
func newDecider(a *Account, now time.Time) *decider {
	a.mu.Lock()
	e := a.entry
	a.mu.Unlock()
	of := &decider{model: a.model, stepped: now.Add(-reportInterval), epoch: e.Auto.Epoch, cut: e.Auto.CutEpoch}
	if e.Auto.Epoch == 1 {
		of.controller = adaptive.New(e.Auto.Least, e.Auto.Most, e.Limit)
	} else {
		of.controller = adaptive.Restore(e.Auto.Least, e.Auto.Most, e.Limit, e.Auto.State)
	}
	return of
}

// hear adds a report. What was measured under another decision than the last says
// nothing of this one.
func (d *decider) hear(n news) {
	h := &d.heard
	h.Begun += n.Begun
	h.InFlight += n.InFlight
	h.Full = h.Full || n.Full
	h.Calls += n.Calls
	h.Tokens += n.Tokens
	if n.Epoch == d.epoch {
		h.Completed = h.Completed.Plus(n.Completed)
		h.Early = h.Early.Plus(n.Early)
	}
	if n.Congested > 0 && n.CutEpoch == d.cut {
		h.Congested += n.Congested
		h.Cause = n.Cause
		h.PauseMS = max(h.PauseMS, n.PauseMS)
	}
}

// step feeds the controller, and writes what it decides.
func (k *Keeper) step(ctx context.Context, key string, a *Account, of *decider, now time.Time) {
	elapsed, h := now.Sub(of.stepped), of.heard
	of.heard, of.stepped = news{}, now
	if elapsed <= 0 {
		return
	}
	part := min(elapsed.Seconds()/rateMemory, 1)
	of.calls += (float64(h.Calls)/elapsed.Seconds() - of.calls) * part
	of.tokens += (float64(h.Tokens)/elapsed.Seconds() - of.tokens) * part
	k.measured.throughput(a.model, of)
	a.mu.Lock()
	before := a.entry
	a.mu.Unlock()
	if before.Auto == nil || before.Auto.Epoch != of.epoch {
		delete(k.decisions.deciders, key) // decided by another, or an operator
		return
	}
	of.controller.Bound(before.Auto.Least, before.Auto.Most)
	d := of.controller.Step(adaptive.Sample{
		Elapsed: elapsed, Begun: h.Begun, InFlight: h.InFlight, Full: h.Full, Completed: h.Completed, Early: h.Early,
		Congested: h.Congested, Cause: h.Cause, Pause: time.Duration(h.PauseMS) * time.Millisecond,
	})
	if !d.Anew {
		return
	}
	opCtx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var after Entry
	err := change(opCtx, k.slots, key, func(e Entry) (Entry, bool) {
		if e.Auto == nil || e.Auto.Decider != k.cfg.Daemon.String() || e.Auto.Epoch != of.epoch {
			after = Entry{}
			return e, false
		}
		auto := *e.Auto
		auto.CallsPerSecond, auto.TokensPerSecond = of.calls, of.tokens
		after = auto.decided(e, d, of.controller.State(), now)
		return after, true
	})
	if err != nil || after.Auto == nil {
		// Whether or not it was written, the entry says from where to go on.
		delete(k.decisions.deciders, key)
		if err != nil && ctx.Err() == nil && !errors.Is(err, batch.ErrNotFound) {
			k.cfg.Log.Warn("a limit could not be decided", "model", a.model, "err", err)
		}
		return
	}
	of.epoch, of.cut = after.Auto.Epoch, after.Auto.CutEpoch
	k.await(opCtx, a, of.epoch)
	if d.Limit != before.Limit {
		k.decided(a.model, before.Limit, d, of)
	}
}

// await reads a decision, so that the next round does not take it for another's.
func (k *Keeper) await(ctx context.Context, a *Account, epoch uint64) {
	generation := k.bucket()
	current, err := k.slots.Get(ctx, streams.Token(a.model))
	if err != nil || current.Operation() != jetstream.KeyValuePut {
		return // the watch brings it
	}
	e, err := decode(current.Value())
	if err == nil && e.Auto != nil && e.Auto.Epoch >= epoch {
		k.during(generation, func() { a.observe(e, current.Revision()) })
		a.wake.Notify()
		a.changed()
	}
}

// decided tells of a limit that has changed.
func (k *Keeper) decided(model batch.Model, from int, d adaptive.Decision, of *decider) {
	k.measured.decision(model, d.Cause)
	level := slog.LevelInfo
	switch d.Cause {
	case adaptive.Probe, adaptive.ProbeOver, adaptive.NoGain, adaptive.Unused: // a look at whether it is still right
		level = slog.LevelDebug
	}
	k.cfg.Log.Log(context.Background(), level, "a limit was changed", "model", model, "from", from, "to", d.Limit, "cause", string(d.Cause),
		"calls_per_second", of.calls, "tokens_per_second", of.tokens)
}
