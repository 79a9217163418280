package consume

import (
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

// finished is a task and what is to be written about it: its ending, its
// return to the stream, or nothing if it has ended elsewhere.
type finished struct {
	task   *task
	ending *postgres.Completion
	back   *postgres.Release
	// denied says why a failure worth a retry got none.
	denied batch.Denied
}

func (f finished) size() int {
	if f.ending == nil {
		return 0
	}
	return len(f.ending.Body)
}

// finish queues a write. It waits while the queue is full, which holds up
// nothing but the goroutine of a call that has ended.
func (c *Consumer) finish(f finished) {
	if f.ending == nil && f.back == nil {
		c.drop(f.task)
		return
	}
	if err := c.finishes.add(c.writing, f); err != nil {
		c.hands.drop(f.task) // stopped: the lease gives the request to another
		c.metrics.dropped(telemetry.DroppedResult, 1)
		c.cfg.Log.Error("result could not be written before the stop; its request will be called again", "request_id", f.task.delivery.ID)
	}
}

// flushFinishes writes to Postgres, then answers the broker. A crash between
// the two leaves a message whose request has ended, acked unseen by the next
// start; or one in backoff, which the next start sends back for what remains.
func (c *Consumer) flushFinishes(items []finished) {
	failpoint.Hit(failpoint.Called)
	pause := minRetryPause
	for {
		written, err := c.write(items)
		if err == nil {
			failpoint.Hit(failpoint.Finished)
			for _, f := range items {
				c.answer(f, written[f.task.delivery.ID])
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
			for _, f := range items {
				c.hands.drop(f.task)
			}
			return
		}
		c.cfg.Log.Warn("writing results", "requests", len(items), "err", err)
		c.trouble.Store(&LastError{At: time.Now(), Detail: "results cannot be written", Err: err})
		pause = c.wait(c.writing, pause)
	}
}

func (c *Consumer) write(items []finished) (map[batch.RequestID]bool, error) {
	var endings []postgres.Completion
	var returns []postgres.Release
	for _, f := range items {
		if f.ending != nil {
			endings = append(endings, *f.ending)
		} else {
			returns = append(returns, *f.back)
		}
	}
	step := c.cfg.Watch.Step("writing results")
	defer step.End()
	return c.cfg.Store.Finish(c.writing, c.cfg.Daemon, endings, returns)
}

// isolate finds the one write that Postgres refuses for what it holds, so that
// it does not keep the others from landing. That request fails without the
// content.
func (c *Consumer) isolate(items []finished, err error) {
	if len(items) > 1 {
		c.flushFinishes(items[:len(items)/2])
		c.flushFinishes(items[len(items)/2:])
		return
	}
	f := items[0]
	if f.ending == nil || f.ending.Body == nil && f.ending.RequestID == "" && f.ending.AnsweredModel == "" {
		c.metrics.dropped(telemetry.DroppedResult, 1)
		c.cfg.Log.Error("result was refused and dropped; its request will be tried again after its lease",
			"request_id", f.task.delivery.ID, "err", err)
		c.hands.drop(f.task)
		return
	}
	f.ending = &postgres.Completion{
		Delivery: f.ending.Delivery, State: batch.Failed, Reason: batch.NonRetriableHTTPStatus,
		Attempts: f.ending.Attempts, StatusCode: f.ending.StatusCode, Detail: "the response could not be stored",
	}
	c.metrics.dropped(telemetry.DroppedResponse, 1)
	c.cfg.Log.Error("response could not be stored", "request_id", f.task.delivery.ID, "err", err)
	c.flushFinishes([]finished{f})
}

// answer tells the broker what was written.
func (c *Consumer) answer(f finished, written bool) {
	if !written && f.task.ended() != postgres.Live {
		c.drop(f.task)
		return
	}
	c.hands.drop(f.task)
	defer f.task.lane.wake()
	f.task.lane.metrics.written(f, written)
	switch {
	case !written:
		// A newer owner has it, or an earlier try of this write landed. The
		// message is left to its lease: the next start finds out which.
		c.fenced.Add(1)
		c.cfg.Log.Warn("write was fenced", "request_id", f.task.delivery.ID)
	case f.ending != nil:
		if f.ending.State == batch.Completed {
			c.completed.Add(1)
		} else {
			c.failed.Add(1)
		}
		c.report(f.task.msg.Ack())
	case f.back.Retry:
		failpoint.Hit(failpoint.Returned)
		c.retried.Add(1)
		c.report(f.task.msg.NakWithDelay(f.back.Delay))
	case f.back.Delay > 0:
		c.report(f.task.msg.NakWithDelay(f.back.Delay))
	default:
		c.report(f.task.msg.Nak())
	}
}
