package dispatch

import (
	"context"
	"math"
	"sync"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/slots"
	"fusillade/internal/watchdog"
)

// followInterval is how often a dispatcher that does not lead tries to.
const followInterval = 2 * time.Second

// lead takes the leader lock whenever it is free, and leads while it holds it.
// doc.go describes the protocol.
func (d *Dispatcher) lead(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := d.cfg.Store.Lead(ctx, d.withQueueGauges(d.runAsLeader))
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("leader election failed", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Jitter(followInterval)):
		}
	}
}

// term is one time of leading. Its state is what the leader has seen or done,
// so that it need not do it again; a new leader begins without any, and does
// some of it once more.
//
// All fields are owned by run's goroutine. What runs beside it, in background,
// uses none of them.
type term struct {
	*Dispatcher
	loop *watchdog.Loop

	applied map[batch.Model]slots.Settings // settings written to the bucket
	reaped  map[batch.DaemonID]bool        // dead daemons of which nothing is left
	stood   map[string]progress            // when each full stream consumer last moved
	idle    map[batch.Model]idleness       // models that had no work when last looked at
	retired map[batch.Model]time.Time      // models that were retired a short time ago

	surplus map[string]time.Time // streams of no shard, since when they have been seen empty

	shards     shards    // as last looked at
	consuming  int       // consumers of the streams when they were last looked for
	reconnects uint64    // of the connection to the broker, by then
	entries    entryList // of the bucket of slots
}

func (d *Dispatcher) runAsLeader(ctx context.Context) error {
	d.cfg.Log.Info("this dispatcher leads")
	t := &term{
		Dispatcher: d, loop: d.cfg.Watch.Loop("leading"),
		applied: make(map[batch.Model]slots.Settings), reaped: make(map[batch.DaemonID]bool), stood: make(map[string]progress),
		idle: make(map[batch.Model]idleness), retired: make(map[batch.Model]time.Time),
		surplus:   make(map[string]time.Time),
		consuming: math.MaxInt, // it looks at once
	}
	defer t.loop.End()
	var background sync.WaitGroup
	defer background.Wait()
	d.startBackground(ctx, &background)
	t.run(ctx)
	return nil
}

// run does what is short, one thing after the other, until ctx ends. A step that
// fails is logged and done again at its next tick; the others go on.
func (t *term) run(ctx context.Context) {
	settings := time.NewTimer(0)
	defer settings.Stop()
	repeats := time.NewTicker(settingsRepeat)
	defer repeats.Stop()
	restores := time.NewTimer(restoreInterval)
	defer restores.Stop()
	var restored time.Time
	reaps := time.NewTimer(0)
	defer reaps.Stop()
	var reaped time.Time
	stuck := time.NewTicker(t.stuckInterval())
	defer stuck.Stop()
	sweeps := time.NewTicker(t.sweepInterval())
	defer sweeps.Stop()
	var retires <-chan time.Time
	if t.cfg.ModelIdle > 0 {
		ticker := time.NewTicker(t.retireInterval())
		defer ticker.Stop()
		retires = ticker.C
	}
	for {
		t.loop.Idle()
		select {
		case <-ctx.Done():
			return
		case <-settings.C:
			t.loop.Busy()
			if !t.applySettings(ctx) {
				settings.Reset(t.settingsInterval())
			}
		case <-t.changed.C():
			settings.Reset(0)
		case <-repeats.C:
			clear(t.applied)
			settings.Reset(0)
		case <-t.lost.C():
			// From the last look on: a thousand lanes that fail would else put it off.
			restores.Reset(max(restoreInterval-time.Since(restored), 0))
		case <-restores.C:
			t.loop.Busy()
			if t.restoreStreams(ctx) {
				clear(t.applied)
				settings.Reset(0)
			}
			restored = time.Now()
			restores.Reset(t.restoreIn())
		case <-t.ended.C():
			reaps.Reset(max(t.reapInterval()-time.Since(reaped), 0))
		case <-reaps.C:
			t.loop.Busy()
			reaped = time.Now()
			again, err := t.reap(ctx)
			t.report(ctx, "requests of dead daemons could not be taken back", err)
			reaps.Reset(again)
		case <-stuck.C:
			t.loop.Busy()
			t.report(ctx, "models could not be moved to their streams", t.relocate(ctx))
			t.report(ctx, "stuck consumers of the stream could not be looked for", t.recreateStuckConsumers(ctx))
		case <-retires:
			t.loop.Busy()
			t.report(ctx, "idle models could not be retired", t.retire(ctx))
		case <-sweeps.C:
			t.loop.Busy()
			t.report(ctx, "records of dead daemons could not be removed", t.removeDeadRecords(ctx))
			t.sweep(ctx)
			_, err := t.cfg.Store.RemoveAbandonedFiles(ctx, uploadIdle)
			t.report(ctx, "abandoned uploads could not be removed", err)
		}
	}
}

// report logs an error unless the term has ended, which makes everything fail.
func (d *Dispatcher) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn(what, "err", err)
	}
}
