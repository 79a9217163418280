package consume

import (
	"log/slog"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

// heavyDelay is how long a request waits that found no room for its body.
const heavyDelay = time.Second

// toStart passes a task to the batched start.
func (c *Consumer) toStart(t *task) {
	if c.starts.tryAdd(t) {
		return
	}
	t.pool.pulling.Idle() // it waits for Postgres, as the flushes do
	err := c.starts.add(c.taking, t)
	t.pool.pulling.Busy()
	if err != nil {
		c.releaseUnstarted(t)
	}
}

// releaseUnstarted releases a message before its start.
func (c *Consumer) releaseUnstarted(t *task) {
	t.trace.outcome(outcomeReleased)
	c.remove(t)
	t.pool.leftStart()
	c.report(t.msg.Nak())
}

// releaseUnread releases started requests whose bodies were not read.
func (c *Consumer) releaseUnread(tasks []*task, delay time.Duration) {
	for _, t := range tasks {
		t.pool.leftStart()
		c.release(t, delay)
	}
}

// flushStarts starts the requests in Postgres and acts on each verdict. While
// Postgres is away it tries again, holding the messages, until a drain.
func (c *Consumer) flushStarts(tasks []*task) {
	f := flusher[*task]{
		write: c.writeStarts, apart: c.setStartApart, stopped: c.releaseStarts, failing: &c.starting,
		metrics: func(class postgres.Class) { c.metrics.storeFailed("start", class) },
	}
	f.flush(c.taking, tasks)
}

func (c *Consumer) writeStarts(tasks []*task) (again []*task, err error) {
	rules := postgres.StartRules{Daemon: c.cfg.Daemon, ProcessingTimeout: c.cfg.ProcessingTimeout, StaleThreshold: c.cfg.StaleThreshold, MaxBytes: c.flushBytes}
	step, began := c.cfg.Watch.Step("starting requests"), time.Now()
	// A drain does not cut it off: what was committed would wait for the end of this daemon.
	starts, err := c.cfg.Store.Start(c.writing, rules, deliveriesOf(tasks))
	step.End()
	c.traceFlush("start flush", began, len(tasks), err, func(yield func(*taskTrace)) {
		for _, t := range tasks {
			yield(t.trace)
		}
	})
	if err != nil {
		return nil, err
	}
	return c.handleVerdicts(tasks, starts), nil
}

// setStartApart releases the one request whose start Postgres refuses, so that
// it does not keep the others from starting. Nothing is known of it yet but its
// number, so the cause is no content of its own, and may pass.
func (c *Consumer) setStartApart(t *task, _ postgres.Class, err error) {
	c.metrics.dropped(telemetry.DroppedStart, 1)
	c.often.Add(slog.LevelError, "request could not be started and is tried again later", []any{"model", t.pool.account.Model()}, "request_id", t.delivery.ID, "err", err)
	t.trace.outcome(outcomeReleased)
	c.remove(t)
	t.pool.leftStart()
	c.report(t.msg.NakWithDelay(c.cfg.Lease))
}

// releaseStarts releases what a drain finds in a flush.
func (c *Consumer) releaseStarts(tasks []*task) {
	for _, t := range tasks {
		if t.deferred {
			c.releaseUnread([]*task{t}, 0)
		} else {
			c.releaseUnstarted(t)
		}
	}
}

// handleVerdicts acts on each verdict and returns the tasks that are to be
// started again for their bodies. If there are too many bodies here already,
// they are released for a while instead.
func (c *Consumer) handleVerdicts(tasks []*task, starts []postgres.Start) (again []*task) {
	now := time.Now()
	var deferred, late []*task
	for i, t := range tasks {
		switch {
		case starts[i].Verdict == postgres.Deferred:
			t.deferred = true
			deferred = append(deferred, t)
		case starts[i].Verdict == postgres.Started && t.escalates(starts[i]):
			late = append(late, t)
		default:
			c.handleVerdict(t, starts[i], now)
		}
	}
	c.escalate(late)
	if len(deferred) == 0 || !c.inflight.heavy() {
		return deferred
	}
	c.releaseUnread(deferred, heavyDelay)
	return nil
}

func (c *Consumer) handleVerdict(t *task, s postgres.Start, now time.Time) {
	switch s.Verdict {
	case postgres.Started:
		failpoint.Hit(failpoint.Started)
		c.inflight.begin(t, s, now)
		t.trace.started(&s)
		if t.liveness() != postgres.Live { // since it was started
			t.pool.leftStart()
			c.abandon(t)
			return
		}
		if s.Takeovers >= c.cfg.MaxTakeovers {
			t.pool.leftStart()
			c.finish(decision{kind: fail, task: t, completion: postgres.Completion{
				Delivery: t.delivery, State: batch.Failed, Reason: batch.Poisoned, Attempts: s.Attempt,
				Detail: "its consumer died or hung too often in the middle of this request",
			}})
			return
		}
		t.credential = c.credentialOf(t)
		c.rateCredential(t)
		t.pool.enqueueReady(t)
		return
	case postgres.Stale:
		t.trace.outcome(outcomeStale)
		c.report(t.msg.Ack())
	case postgres.Busy:
		t.trace.outcome(outcomeBusy)
		// Soon after its daemon turns out to be dead, if it does.
		c.report(t.msg.NakWithDelay(min(s.Wait+busyMargin, busyDelay)))
	case postgres.Early:
		t.trace.outcome(outcomeEarly)
		c.report(t.msg.NakWithDelay(max(s.Wait, time.Millisecond)))
	}
	c.remove(t)
	t.pool.leftStart()
}

// escalate returns started requests to pending without a call, to be claimed
// anew for the model that they go to. A crash before the ack leaves a message
// of a claim that was released, which the next start refuses. Where the claims
// cannot be released the requests are, as they are, and their next start looks
// again; if it was done all the same that write is fenced, and their leases run
// out.
func (c *Consumer) escalate(tasks []*task) {
	if len(tasks) == 0 {
		return
	}
	requests := make([]postgres.ClaimedRequest, len(tasks))
	for i, t := range tasks {
		requests[i] = postgres.ClaimedRequest{ID: t.delivery.ID, Claim: t.delivery.Claim, Delivery: t.delivery.Number}
	}
	_, err := c.cfg.Store.ReleaseClaims(c.writing, requests, 0)
	if err != nil {
		c.cfg.Log.Warn("returning requests that escalate", "requests", len(tasks), "err", err)
	}
	for _, t := range tasks {
		t.pool.leftStart()
		if err != nil {
			c.release(t, busyDelay)
			continue
		}
		t.trace.outcome(outcomeEscalated)
		c.remove(t)
		c.report(t.msg.Ack())
	}
	if err == nil {
		c.report(c.cfg.Conn.Publish(streams.HintWork, nil))
	}
}
