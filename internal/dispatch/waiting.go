package dispatch

import (
	"context"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	// reroutePage is how many requests are given to other models in one statement.
	reroutePage = 500
	// readPart bounds the part of a lane's time that it spends on reading
	// cursors while it has some, one in so many, if it finds manyCursors.
	readPart    = 5
	manyCursors = 100
)

// reroutes reports whether requests that wait here may belong to another model, or
// come here from another one: that is looked for also while the window is full.
func (l *lane) reroutes() bool {
	decided := l.d.decided()
	_, escalates := decided.escalations[l.model]
	return escalates || l.misrouted.Load() || len(decided.routes(l.model)) > 1
}

// refresh reads the cursors if they may have changed. An idle lane leaves it to
// the dispatcher's survey, and to the moment of the next escalation, to find out
// that there is work.
func (l *lane) refresh(ctx context.Context) error {
	if !l.nextEscalation.IsZero() && !time.Now().Before(l.nextEscalation) {
		l.stale.Store(true)
	}
	idle := l.scheduler.empty()
	if !l.stale.Swap(false) && (idle || time.Since(l.read) < cursorsAge) {
		return nil
	}
	began := time.Now()
	if !l.scheduler.empty() && l.listed >= manyCursors && began.Sub(l.read) < readPart*l.readTime {
		l.stale.Store(true) // hints may come faster than lists can be read
		return nil
	}
	err := l.inTurn(ctx, func() error {
		began = time.Now()
		return l.readWaiting(ctx)
	})
	if err != nil {
		l.stale.Store(true)
	}
	l.readTime = time.Since(began)
	return err
}

// readWaiting reads what waits for the model by the settings in force.
func (l *lane) readWaiting(ctx context.Context) error {
	decided := l.d.decided()
	routes := decided.routes(l.model)
	if err := l.reroute(ctx, decided.escalations, len(routes) > 1); err != nil {
		return err
	}
	if decided.paused(l.model) {
		l.scheduler.load(nil, 0)
		l.nextEscalation = time.Time{}
		return nil
	}
	// Read before the cursors: what escalates in between is found twice, and not
	// missed.
	escalation, err := l.findNextEscalation(ctx, routes)
	if err != nil {
		return err
	}
	waiting, err := l.d.cfg.Store.Waiting(ctx, l.model, routes, l.next, l.nextDue)
	if err != nil {
		return err
	}
	cursors := l.withoutHeld(waiting.Cursors)
	l.scheduler.load(cursors, l.window.rate)
	l.listed = len(cursors)
	l.next, l.nextDue, l.read, l.nextEscalation = waiting.From, waiting.FromDue, time.Now(), escalation
	return nil
}

// withoutHeld leaves out what is held: it would only be called to be told so, and
// would crowd out others. Of what is refused, one request now and then goes on:
// it may become the probe.
func (l *lane) withoutHeld(cursors []postgres.Cursor) []postgres.Cursor {
	left := cursors[:0]
	for _, c := range cursors {
		held, probe := l.d.holds.Held(l.model, c.Batch, c.HasOwnKey, c.CreatedBy)
		switch {
		case held, c.Remaining <= 0:
			continue
		case probe != "":
			if !l.d.holds.TakeOffer(probe, l.model) {
				continue
			}
			c.Remaining, c.More = 1, false
		}
		left = append(left, c)
	}
	return left
}

// findNextEscalation returns when the next batch comes to the model by escalation.
func (l *lane) findNextEscalation(ctx context.Context, routes []postgres.Route) (time.Time, error) {
	if len(routes) == 1 {
		return time.Time{}, nil
	}
	in, ok, err := l.d.cfg.Store.NextOnRoutes(ctx, l.model, routes[1:])
	if err != nil || !ok {
		return time.Time{}, err
	}
	return time.Now().Add(in), nil
}

// reroute gives requests that wait for a claim here, and belong elsewhere by
// now, to the models they belong to. They may only be there if this model
// has to do with an escalation, or had: so it looks in any case after the
// settings have changed, and at first.
func (l *lane) reroute(ctx context.Context, e postgres.Escalations, isTarget bool) error {
	misrouted := l.misrouted.Swap(false)
	if _, escalates := e[l.model]; !escalates && !isTarget && !misrouted {
		return nil
	}
	for n := reroutePage; n == reroutePage; {
		moved, err := l.d.cfg.Store.Reroute(ctx, l.model, reroutePage, e)
		if err != nil {
			l.misrouted.Store(true)
			return err
		}
		n = 0
		for model, count := range moved {
			n += count
			l.d.arrived(model)
		}
	}
	return nil
}

// arrived wakes the model's lane: requests were given to it.
func (d *Dispatcher) arrived(model batch.Model) {
	if l := d.lane(model); l != nil {
		l.stale.Store(true)
		l.wake.Notify()
		return
	}
	d.work.Notify() // there is none yet
}
