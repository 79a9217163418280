package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

const (
	// maxLookupErrors in one page end a sweep: the broker is away.
	maxLookupErrors = 5
	// uploadIdle is how long an upload may lie untouched before it is removed.
	uploadIdle = time.Hour
)

func (d *Dispatcher) sweepInterval() time.Duration {
	return max(min(d.cfg.ClaimTimeout, d.cfg.StaleThreshold)/4, 100*time.Millisecond)
}

// sweep returns to pending what should have moved on long ago and has no
// message in the stream. What has one is the stream's business: it waits there
// behind others, or its lease runs out.
func (t *term) sweep(ctx context.Context) {
	defer t.metrics.swept(time.Now())
	limits := postgres.OverdueAfter{Claim: t.cfg.ClaimTimeout, Processing: t.cfg.ProcessingTimeout, Heartbeat: t.cfg.StaleThreshold}
	page := t.cfg.ReclaimBatchSize
	for after, more := (batch.RequestID{}), true; more && ctx.Err() == nil; {
		t.loop.Busy()
		overdue, err := t.cfg.Store.Overdue(ctx, limits, after, page)
		if err != nil {
			t.report(ctx, "overdue requests could not be looked for", err)
			return
		}
		if len(overdue) > 0 {
			after = overdue[len(overdue)-1].ID
		}
		err = t.sweepPage(ctx, overdue)
		t.report(ctx, "messages of overdue requests could not be looked up", err)
		more = err == nil && len(overdue) == page
	}
}

// sweepPage releases those of the overdue requests that have no message. It goes
// on after an error, which is of one message, unless there are so many that the
// broker must be away. The next sweep looks again for what this one did not find.
func (t *term) sweepPage(ctx context.Context, overdue []postgres.Overdue) error {
	var lost []postgres.ClaimedRequest
	var errs []error
	served := make(map[batch.Model]bool)
	for _, o := range overdue {
		if len(errs) == maxLookupErrors || ctx.Err() != nil {
			break
		}
		t.loop.Busy()
		missing, unreached, err := t.missing(ctx, o)
		switch {
		case err != nil:
			errs = append(errs, err)
		case unreached != 0:
			t.releaseUnreached(ctx, o, unreached)
		case missing:
			lost = append(lost, o.ClaimedRequest)
		case !served[o.Model]:
			// It waits for a consumer, or there is none: see retire.go.
			served[o.Model] = true
			t.report(ctx, "a model with messages could not be served", t.serveIfLost(ctx, o.Model))
		}
	}
	if len(lost) > 0 {
		t.cfg.Log.Warn("requests without a message return to pending", "requests", len(lost))
		t.metrics.reclaimed(telemetry.MessageLost, t.releaseClaims(ctx, lost, 0))
		t.work.Notify()
	}
	if len(errs) < maxLookupErrors {
		t.report(ctx, "messages of some overdue requests could not be looked up", errors.Join(errs...))
		return nil
	}
	return errors.Join(errs...)
}

// missing looks a request's message up. One of another claim counts as none:
// the consumer that receives it acks it. Of one whose claim the request has not
// reached, as far as is known, the sequence is returned.
func (d *Dispatcher) missing(ctx context.Context, o postgres.Overdue) (missing bool, unreached uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	msg, err := d.stream(o.Model).GetLastMsgForSubject(ctx, d.shard(o.Model).RequestSubject(o.Model, o.ID))
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

// releaseUnreached returns a request to pending and removes a message of a claim that
// it has not reached, which publishes of lower claims would leave in its place.
// There is one after the database was restored from a backup. That the release
// applies shows that it was not another dispatcher's message, of a claim
// made in the meantime. A crash before the message is removed leaves it to
// the consumer that receives it.
func (d *Dispatcher) releaseUnreached(ctx context.Context, o postgres.Overdue, unreached uint64) {
	n := d.releaseClaims(ctx, []postgres.ClaimedRequest{o.ClaimedRequest}, 0)
	if n == 0 {
		return
	}
	d.cfg.Log.Warn("a request whose message is of a claim that it never had returns to pending", "request_id", o.ID)
	d.metrics.reclaimed(telemetry.MessageLost, n)
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	_ = d.stream(o.Model).DeleteMsg(ctx, unreached) // it may have been acked meanwhile
	d.work.Notify()
}
