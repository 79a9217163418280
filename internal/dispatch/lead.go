package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

const (
	sweepPage = 500
	// followInterval is how often a dispatcher that does not lead tries to.
	followInterval = 2 * time.Second
	// restoreInterval is how often the leader looks whether the broker has lost
	// something.
	restoreInterval = time.Second
	// limitRepeat is how often limits are written again, in case the bucket was
	// lost or restored.
	limitRepeat = 5 * time.Second
	// uploadIdle is how long an upload may lie untouched before it is removed.
	uploadIdle = time.Hour
)

// lead does what one dispatcher at a time must do, while it is this one's turn.
func (d *Dispatcher) lead(ctx context.Context) {
	for ctx.Err() == nil {
		_, err := d.cfg.Store.Lead(ctx, d.measured(d.reign))
		if err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("leading", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(jittered(followInterval)):
		}
	}
}

func (d *Dispatcher) reign(ctx context.Context) error {
	d.cfg.Log.Info("this dispatcher leads")
	var upkeep sync.WaitGroup
	defer upkeep.Wait()
	d.keepUp(ctx, &upkeep)
	limits := time.NewTicker(d.limitInterval())
	defer limits.Stop()
	applied := make(map[batch.Model]slots.Settings) // what was written and is not to be written again
	repeats := time.NewTicker(limitRepeat)
	defer repeats.Stop()
	restores := time.NewTicker(restoreInterval)
	defer restores.Stop()
	sweeps := time.NewTicker(d.sweepInterval())
	defer sweeps.Stop()
	reclaims := time.NewTicker(d.reclaimInterval())
	defer reclaims.Stop()
	buried := make(map[batch.DaemonID]bool)
	revivals := time.NewTicker(d.reviveInterval())
	defer revivals.Stop()
	seen := make(map[string]standing)
	d.leading = d.cfg.Watch.Loop("leading")
	defer d.leading.End()
	for {
		d.leading.Idle()
		select {
		case <-ctx.Done():
			return nil
		case <-limits.C:
			d.applySettings(ctx, applied)
		case <-d.changed:
			d.applySettings(ctx, applied)
		case <-repeats.C:
			clear(applied)
		case <-restores.C:
			d.leading.Busy()
			if d.restoreStreams(ctx) {
				clear(applied)
			}
		case <-revivals.C:
			d.leading.Busy()
			if err := d.revive(ctx, seen); err != nil && ctx.Err() == nil {
				d.cfg.Log.Warn("looking for stuck consumers", "err", err)
			}
		case <-reclaims.C:
			d.leading.Busy()
			if err := d.reclaim(ctx, buried); err != nil && ctx.Err() == nil {
				d.cfg.Log.Warn("reclaiming requests of dead daemons", "err", err)
			}
		case <-sweeps.C:
			d.leading.Busy()
			if err := d.forgetDead(ctx); err != nil && ctx.Err() == nil {
				d.cfg.Log.Warn("removing records of dead daemons", "err", err)
			}
			d.sweep(ctx)
			if _, err := d.cfg.Store.RemoveAbandonedFiles(ctx, uploadIdle); err != nil && ctx.Err() == nil {
				d.cfg.Log.Warn("removing abandoned uploads", "err", err)
			}
		}
	}
}

// limitInterval: a changed limit is in force within a second.
func (d *Dispatcher) limitInterval() time.Duration {
	return min(d.cfg.ClaimInterval/2, 250*time.Millisecond)
}

func (d *Dispatcher) sweepInterval() time.Duration {
	return max(min(d.cfg.ClaimTimeout, d.cfg.StaleThreshold)/4, 100*time.Millisecond)
}

// restoreStreams creates the stream and the buckets anew if the broker has
// lost one, and reports whether it did. What was in them is rebuilt from
// Postgres: lanes create their consumers again, and the sweep returns requests
// without messages.
func (d *Dispatcher) restoreStreams(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	for _, name := range d.cfg.Streams.StreamNames() {
		_, err := d.js.Stream(ctx, name)
		if err == nil {
			continue
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			d.cfg.Log.Warn("the broker has lost a stream, which is created anew", "stream", name)
			if err = streams.Ensure(ctx, d.js, d.cfg.Streams); err == nil {
				return true
			}
		}
		if ctx.Err() == nil {
			d.cfg.Log.Warn("restoring streams", "err", err)
		}
		return false
	}
	return false
}

// applySettings writes the limits and what else was decided about models where
// consumers see them. Only the leader does, so that dispatchers with different
// environments do not take turns.
func (d *Dispatcher) applySettings(ctx context.Context, applied map[batch.Model]slots.Settings) {
	decided := d.decided()
	carried := false
	for _, model := range d.models() {
		want := decided.slots(model)
		if applied[model] == want {
			continue
		}
		if !carried {
			var err error
			if carried, err = d.carried(ctx); err != nil && ctx.Err() == nil {
				d.cfg.Log.Warn("applying settings", "err", err)
			}
			if !carried {
				clear(applied) // what was there is no more
				return
			}
		}
		opCtx, cancel := context.WithTimeout(ctx, brokerTimeout)
		err := slots.Apply(opCtx, d.slots, model, want)
		if errors.Is(err, batch.ErrNotFound) {
			err = nil                                             // its first request creates it
			if l := d.lane(model); l != nil && l.ensured.Load() { // or the bucket was lost
				err = slots.EnsureModel(opCtx, d.slots, model, want)
			}
		}
		cancel()
		if err == nil {
			applied[model] = want
		} else if ctx.Err() == nil {
			d.cfg.Log.Warn("applying settings", "model", model, "err", err)
		}
	}
}

// carried reports whether slots may be given out: everyone who may hold slots
// of an earlier bucket has had the time to carry its calls in flight into this
// one. Nobody does who began after this one was made.
func (d *Dispatcher) carried(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	// In this order: the time between the two makes the bucket look older.
	oldest, err := d.cfg.Store.OldestConsumer(ctx, d.cfg.StaleThreshold)
	if err != nil {
		return false, err
	}
	age, err := slots.Age(ctx, d.slots)
	if err != nil {
		return false, err
	}
	return oldest <= age || age >= slots.CarriedAfter, nil
}

// sweep returns to pending what should have moved on long ago and has no
// message in the stream. What has one is the stream's business: it waits there
// behind others, or its lease runs out.
func (d *Dispatcher) sweep(ctx context.Context) {
	defer d.metrics.swept(time.Now())
	after := batch.RequestID{}
	limits := postgres.OverdueAfter{Claim: d.cfg.ClaimTimeout, Processing: d.cfg.ProcessingTimeout, Heartbeat: d.cfg.StaleThreshold}
	for ctx.Err() == nil {
		d.leading.Busy()
		overdue, err := d.cfg.Store.Overdue(ctx, limits, after, sweepPage)
		if err != nil {
			if ctx.Err() == nil {
				d.cfg.Log.Warn("looking for overdue requests", "err", err)
			}
			return
		}
		var lost []postgres.ClaimedRequest
		for _, o := range overdue {
			after = o.ID
			d.leading.Busy()
			missing, unreached, err := d.missing(ctx, o)
			if err != nil {
				if ctx.Err() == nil {
					d.cfg.Log.Warn("looking for the message of an overdue request", "request_id", o.ID, "err", err)
				}
				return
			}
			switch {
			case unreached != 0:
				d.returnFrom(ctx, o, unreached)
			case missing:
				lost = append(lost, o.ClaimedRequest)
			}
		}
		if len(lost) > 0 {
			d.cfg.Log.Warn("requests without a message return to pending", "requests", len(lost))
			d.metrics.reclaimed(telemetry.MessageLost, d.unclaim(ctx, lost, 0))
			poke(d.work)
		}
		if len(overdue) < sweepPage {
			return
		}
	}
}

// missing looks a request's message up. One of another claim counts as none:
// whoever receives it will ack it. Of one whose claim the request has not
// reached, as far as is known, the sequence is returned.
func (d *Dispatcher) missing(ctx context.Context, o postgres.Overdue) (missing bool, unreached uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	msg, err := d.stream.GetLastMsgForSubject(ctx, streams.RequestSubject(o.Model, o.ID))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return true, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	if claimOf(msg) > o.Claim {
		return true, msg.Sequence, nil
	}
	return !isOf(msg, o.Claim), 0, nil
}

// returnFrom returns a request to pending and removes a message of a claim that
// it has not reached, which publishes of lower claims would leave in its place.
// There is one after the database was restored from a backup. That the request
// is unclaimed shows that it was not another dispatcher's message, of a claim
// made in the meantime. A crash before the message is removed leaves it to
// whoever receives it.
func (d *Dispatcher) returnFrom(ctx context.Context, o postgres.Overdue, unreached uint64) {
	n := d.unclaim(ctx, []postgres.ClaimedRequest{o.ClaimedRequest}, 0)
	if n == 0 {
		return
	}
	d.cfg.Log.Warn("a request whose message is of a claim that it never had returns to pending", "request_id", o.ID)
	d.metrics.reclaimed(telemetry.MessageLost, n)
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	_ = d.stream.DeleteMsg(ctx, unreached) // it may have been acked meanwhile
	poke(d.work)
}
