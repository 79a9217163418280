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

// kind is how a task ends in this consumer.
type kind int

const (
	complete kind = iota + 1 // its request completed: the result is stored
	fail                     // its request failed for good: the result is stored
	retry                    // its attempt failed: it is counted, and the request waits out a backoff
	release                  // no outcome: the request goes back as it was
	abandon                  // its request finished, or was taken over, elsewhere: nothing is stored
)

// decision is how a task ends, and what is written about it.
type decision struct {
	kind kind
	task *task
	// completion is of complete and fail.
	completion postgres.Completion
	// denied is why a failure worth a retry got none.
	denied batch.Denied
	// release is of retry and release.
	release postgres.Release
}

// released is the decision that returns a started request without an outcome,
// for any consumer to start after the delay.
func released(t *task, delay time.Duration) decision {
	return decision{kind: release, task: t, release: postgres.Release{Delivery: t.delivery, Delay: delay, Due: t.waitsInPostgres(delay)}}
}

// waitsInPostgres reports whether the request waits for its next start in
// Postgres, to be claimed anew, and not in the stream.
func (t *task) waitsInPostgres(delay time.Duration) bool {
	if delay <= 0 {
		return false
	}
	now, p := time.Now(), t.pool
	return delay > p.c.cfg.MaxStreamBackoff || !p.waiting.take(t.start.Owner, now, now.Add(delay), p.account.Standing())
}

func (d *decision) bytes() int { return len(d.completion.Body) }

// release returns a started request without an outcome.
func (c *Consumer) release(t *task, delay time.Duration) { c.finish(released(t, delay)) }

// finish queues a decision to be written. It waits while the queue is full, which
// holds up nothing but the goroutine of a call that has ended.
func (c *Consumer) finish(d decision) {
	if d.kind == abandon {
		c.abandon(d.task)
		return
	}
	d.task.trace.decided(&d)
	d.task.trace.begin("finish")
	c.capacity.addResult(c.inflight.finishing(d.task, d.bytes()))
	if err := c.finishes.add(c.writing, d); err != nil {
		c.dropFinishes([]decision{d})
	}
}

// remove takes a task out of the registry, and ends its spans.
func (c *Consumer) remove(t *task) {
	t.trace.end()
	if c.capacity.freeResult(c.inflight.remove(t)) {
		c.dispatchAll()
	}
}

// AddResult counts bytes of results that are stored and wait for something else. They
// count among those that wait to be stored: while there are too many, no call begins.
func (c *Consumer) AddResult(bytes int) { c.capacity.addResult(bytes) }

// FreeResult counts bytes that wait no more.
func (c *Consumer) FreeResult(bytes int) {
	if c.capacity.freeResult(bytes) {
		c.dispatchAll()
	}
}

// abandon lets go of a task whose request finished or was taken over elsewhere.
func (c *Consumer) abandon(t *task) {
	if t.liveness() == postgres.Ended {
		t.trace.outcome(string(batch.Canceled))
	} else {
		t.trace.outcome(outcomeTakenOver)
	}
	c.remove(t)
	c.aborted.Add(1)
	if t.liveness() == postgres.Ended { // else its message is the new owner's
		c.report(t.msg.Ack())
	}
	t.pool.wake()
}

// flushFinishes writes to Postgres, then answers the broker. A crash between
// the two leaves a message whose request has finished, acked unseen by the next
// start; one in backoff, which the next start sends back for what remains; or one
// that waits for a new claim, acked unseen as well.
func (c *Consumer) flushFinishes(items []decision) {
	failpoint.Hit(failpoint.Called)
	c.finishFlusher().flush(c.writing, items)
}

func (c *Consumer) finishFlusher() *flusher[decision] {
	return &flusher[decision]{
		write: c.writeFinishes, apart: c.setApart, stopped: c.dropFinishes, failing: &c.finishing,
		metrics: func(class postgres.Class) { c.metrics.storeFailed("result", class) },
	}
}

func (c *Consumer) writeFinishes(items []decision) (again []decision, err error) {
	var completions []postgres.Completion
	var releases []postgres.Release
	for i := range items {
		switch items[i].kind {
		case complete, fail:
			completions = append(completions, items[i].completion)
		case retry, release:
			releases = append(releases, items[i].release)
		}
	}
	step, began := c.cfg.Watch.Step("writing results"), time.Now()
	written, err := c.cfg.Store.Finish(c.writing, c.cfg.Daemon, completions, releases)
	step.End()
	c.traceFlush("result flush", began, len(items), err, func(yield func(*taskTrace)) {
		for i := range items {
			yield(items[i].task.trace)
		}
	})
	if err != nil {
		if c.writing.Err() == nil {
			c.lastError.Store(&LastError{At: time.Now(), Detail: "results cannot be written", Err: err})
		}
		return nil, err
	}
	failpoint.Hit(failpoint.Finished)
	c.exceeded(written)
	for i := range items {
		c.answer(&items[i], written[items[i].task.delivery.ID])
	}
	return nil, nil
}

// exceeded counts the batches that have spent their budget with what was written, and
// tells the leader. A crash before it, or a hint that is lost, leaves them to its next
// look.
func (c *Consumer) exceeded(written map[batch.RequestID]bool) {
	n := 0
	for id := range written {
		if id.Line == 0 {
			n++
		}
	}
	if n > 0 {
		c.metrics.exceededBudgets.Add(float64(n))
		c.report(c.cfg.Conn.Publish(streams.HintWork, nil))
	}
}

// dropFinishes lets go of what could not be written before the stop: the leases
// give the requests to others.
func (c *Consumer) dropFinishes(items []decision) {
	if len(items) == 0 {
		return
	}
	c.metrics.dropped(telemetry.DroppedResult, len(items))
	c.cfg.Log.Error("results could not be written before the stop; their requests will be called again", "requests", len(items))
	for i := range items {
		items[i].task.trace.outcome(outcomeDropped)
		c.remove(items[i].task)
	}
}

// answer tells the broker what was written.
func (c *Consumer) answer(d *decision, written bool) {
	if !written && d.task.liveness() != postgres.Live {
		c.abandon(d.task)
		return
	}
	d.task.trace.written(d.kind, written)
	c.remove(d.task)
	defer d.task.pool.wake()
	d.task.pool.metrics.written(d, written)
	if !written {
		// A newer owner has it, or an earlier try of this write landed. The
		// message is left to its lease: the next start finds out which.
		c.fenced.Add(1)
		c.often.Add(slog.LevelWarn, "write was fenced", []any{"model", d.task.pool.account.Model()}, "request_id", d.task.delivery.ID)
		return
	}
	switch d.kind {
	case complete:
		c.completed.Add(1)
		c.report(d.task.msg.Ack())
	case fail:
		c.failed.Add(1)
		c.report(d.task.msg.Ack())
	case retry, release:
		if d.kind == retry {
			failpoint.Hit(failpoint.Returned)
			c.retried.Add(1)
		}
		switch {
		case d.release.Due:
			c.report(d.task.msg.Ack())
		case d.release.Delay > 0:
			c.report(d.task.msg.NakWithDelay(d.release.Delay))
		default:
			c.report(d.task.msg.Nak())
		}
	}
}
