package consume

import (
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
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
	return decision{kind: release, task: t, release: postgres.Release{Delivery: t.delivery, Delay: delay}}
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
	if err := c.finishes.add(c.writing, d); err != nil {
		c.inflight.remove(d.task) // stopped: the lease gives the request to another
		c.metrics.dropped(telemetry.DroppedResult, 1)
		c.cfg.Log.Error("result could not be written before the stop; its request will be called again", "request_id", d.task.delivery.ID)
	}
}

// abandon lets go of a task whose request finished or was taken over elsewhere.
func (c *Consumer) abandon(t *task) {
	c.inflight.remove(t)
	c.aborted.Add(1)
	if t.liveness() == postgres.Ended { // else its message is the new owner's
		c.report(t.msg.Ack())
	}
	t.pool.wake()
}

// flushFinishes writes to Postgres, then answers the broker. A crash between
// the two leaves a message whose request has finished, acked unseen by the next
// start; or one in backoff, which the next start sends back for what remains.
func (c *Consumer) flushFinishes(items []decision) {
	failpoint.Hit(failpoint.Called)
	pause := minRetryPause
	for {
		written, err := c.write(items)
		if err == nil {
			failpoint.Hit(failpoint.Finished)
			for i := range items {
				c.answer(&items[i], written[items[i].task.delivery.ID])
			}
			return
		}
		if !postgres.Transient(err) && c.writing.Err() == nil {
			c.isolate(items, err)
			return
		}
		if c.writing.Err() != nil {
			c.metrics.dropped(telemetry.DroppedResult, len(items))
			c.cfg.Log.Error("results could not be written before the stop; their requests will be called again",
				"requests", len(items), "err", err)
			for i := range items {
				c.inflight.remove(items[i].task)
			}
			return
		}
		c.cfg.Log.Warn("writing results", "requests", len(items), "err", err)
		c.lastError.Store(&LastError{At: time.Now(), Detail: "results cannot be written", Err: err})
		pause = c.wait(c.writing, pause)
	}
}

func (c *Consumer) write(items []decision) (map[batch.RequestID]bool, error) {
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
	step := c.cfg.Watch.Step("writing results")
	defer step.End()
	return c.cfg.Store.Finish(c.writing, c.cfg.Daemon, completions, releases)
}

// isolate finds the one write that Postgres refuses for what it holds, so that
// it does not keep the others from landing. That request fails without the
// content.
func (c *Consumer) isolate(items []decision, err error) {
	if len(items) > 1 {
		c.flushFinishes(items[:len(items)/2])
		c.flushFinishes(items[len(items)/2:])
		return
	}
	d := &items[0]
	bare := d.completion.Body == nil && d.completion.RequestID == "" && d.completion.AnsweredModel == ""
	if d.kind == retry || d.kind == release || bare {
		c.metrics.dropped(telemetry.DroppedResult, 1)
		c.cfg.Log.Error("result was refused and dropped; its request will be tried again after its lease",
			"request_id", d.task.delivery.ID, "err", err)
		c.inflight.remove(d.task)
		return
	}
	c.metrics.dropped(telemetry.DroppedResponse, 1)
	c.cfg.Log.Error("response could not be stored", "request_id", d.task.delivery.ID, "err", err)
	c.flushFinishes([]decision{{kind: fail, task: d.task, completion: postgres.Completion{
		Delivery: d.completion.Delivery, State: batch.Failed, Reason: batch.ResponseUnstorable,
		Attempts: d.completion.Attempts, StatusCode: d.completion.StatusCode, Detail: "the response could not be stored",
	}}})
}

// answer tells the broker what was written.
func (c *Consumer) answer(d *decision, written bool) {
	if !written && d.task.liveness() != postgres.Live {
		c.abandon(d.task)
		return
	}
	c.inflight.remove(d.task)
	defer d.task.pool.wake()
	d.task.pool.metrics.written(d, written)
	if !written {
		// A newer owner has it, or an earlier try of this write landed. The
		// message is left to its lease: the next start finds out which.
		c.fenced.Add(1)
		c.cfg.Log.Warn("write was fenced", "request_id", d.task.delivery.ID)
		return
	}
	switch d.kind {
	case complete:
		c.completed.Add(1)
		c.report(d.task.msg.Ack())
	case fail:
		c.failed.Add(1)
		c.report(d.task.msg.Ack())
	case retry:
		failpoint.Hit(failpoint.Returned)
		c.retried.Add(1)
		c.report(d.task.msg.NakWithDelay(d.release.Delay))
	case release:
		if d.release.Delay > 0 {
			c.report(d.task.msg.NakWithDelay(d.release.Delay))
		} else {
			c.report(d.task.msg.Nak())
		}
	}
}
