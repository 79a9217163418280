package consume

import (
	"context"
	"math/rand/v2"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

// heavyDelay is how long a request waits that found no room for its body.
const heavyDelay = time.Second

const minRetryPause, maxRetryPause = 50 * time.Millisecond, 2 * time.Second

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
	c.inflight.remove(t)
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
	deliveries := deliveriesOf(tasks)
	rules := postgres.StartRules{Daemon: c.cfg.Daemon, ProcessingTimeout: c.cfg.ProcessingTimeout, StaleThreshold: c.cfg.StaleThreshold, MaxBytes: c.flushBytes}
	pause, deferred := minRetryPause, false
	for c.taking.Err() == nil {
		step := c.cfg.Watch.Step("starting requests")
		starts, err := c.cfg.Store.Start(c.taking, rules, deliveries)
		step.End()
		if err == nil {
			if tasks = c.handleVerdicts(tasks, starts); len(tasks) == 0 {
				return
			}
			deliveries, pause, deferred = deliveriesOf(tasks), minRetryPause, true
			continue
		}
		if c.taking.Err() != nil {
			break
		}
		if !postgres.Transient(err) {
			c.isolateStart(tasks, err)
			return
		}
		c.cfg.Log.Warn("starting requests", "requests", len(tasks), "err", err)
		pause = c.wait(c.taking, pause)
	}
	if deferred { // they are started, and lack only their bodies
		c.releaseUnread(tasks, 0)
		return
	}
	for _, t := range tasks {
		c.releaseUnstarted(t)
	}
}

// isolateStart finds the one request whose start Postgres refuses for what it
// holds, so that it does not keep the others from starting.
func (c *Consumer) isolateStart(tasks []*task, err error) {
	if len(tasks) > 1 {
		c.flushStarts(tasks[:len(tasks)/2])
		c.flushStarts(tasks[len(tasks)/2:])
		return
	}
	t := tasks[0]
	c.metrics.dropped(telemetry.DroppedStart, 1)
	c.cfg.Log.Error("request could not be started and is tried again later", "request_id", t.delivery.ID, "err", err)
	c.inflight.remove(t)
	t.pool.leftStart()
	c.report(t.msg.NakWithDelay(c.cfg.Lease))
}

// wait pauses between tries of one write and returns the next pause.
func (c *Consumer) wait(ctx context.Context, pause time.Duration) time.Duration {
	select {
	case <-ctx.Done():
	case <-time.After(pause/2 + rand.N(pause)):
	}
	return min(2*pause, maxRetryPause)
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
		t.pool.enqueueReady(t)
		return
	case postgres.Stale:
		c.report(t.msg.Ack())
	case postgres.Busy:
		// Soon after its daemon turns out to be dead, if it does.
		c.report(t.msg.NakWithDelay(min(s.Wait+busyMargin, busyDelay)))
	case postgres.Early:
		c.report(t.msg.NakWithDelay(max(s.Wait, time.Millisecond)))
	}
	c.inflight.remove(t)
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
		c.inflight.remove(t)
		c.report(t.msg.Ack())
	}
	if err == nil {
		c.report(c.cfg.Conn.Publish(streams.HintWork, nil))
	}
}
