package consume

import (
	"context"
	"math/rand/v2"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/metric"
	"fusillade/internal/postgres"
)

const minRetryPause, maxRetryPause = 50 * time.Millisecond, 2 * time.Second

// toStart passes a task to the batched start.
func (c *Consumer) toStart(t *task) {
	if err := c.starts.add(c.taking, t); err != nil {
		c.unstarted(t)
	}
}

// unstarted hands a message back before its start.
func (c *Consumer) unstarted(t *task) {
	c.hands.drop(t)
	t.lane.unstarting()
	c.report(t.msg.Nak())
}

// flushStarts starts the requests in Postgres and acts on each verdict. While
// Postgres is away it tries again, holding the messages, until a drain.
func (c *Consumer) flushStarts(tasks []*task) {
	deliveries := make([]postgres.Delivery, len(tasks))
	for i, t := range tasks {
		deliveries[i] = t.delivery
	}
	rules := postgres.StartRules{Daemon: c.cfg.Daemon, ProcessingTimeout: c.cfg.ProcessingTimeout, StaleThreshold: c.cfg.StaleThreshold}
	pause := minRetryPause
	for c.taking.Err() == nil {
		starts, err := c.cfg.Store.Start(c.taking, rules, deliveries)
		if err == nil {
			now := time.Now()
			var late []*task
			for i, t := range tasks {
				if starts[i].Verdict == postgres.Started && t.lane.escalates(starts[i]) {
					late = append(late, t)
					continue
				}
				c.judge(t, starts[i], now)
			}
			c.escalate(late)
			return
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
	for _, t := range tasks {
		c.unstarted(t)
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
	c.metrics.dropped(metric.DroppedStart, 1)
	c.cfg.Log.Error("request could not be started and is tried again later", "request_id", t.delivery.ID, "err", err)
	c.hands.drop(t)
	t.lane.unstarting()
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

func (c *Consumer) judge(t *task, s postgres.Start, now time.Time) {
	switch s.Verdict {
	case postgres.Started:
		c.hands.begin(t, s, now)
		if s.Takeovers >= c.cfg.MaxDeliveries {
			t.lane.unstarting()
			c.finish(finished{task: t, ending: &postgres.Ending{
				Delivery: t.delivery, State: batch.Failed, Reason: batch.Poisoned, Attempts: s.Attempt,
				Detail: "its consumer died or hung too often in the middle of this request",
			}})
			return
		}
		t.lane.judged(t)
		return
	case postgres.Stale:
		c.report(t.msg.Ack())
	case postgres.Busy:
		c.report(t.msg.NakWithDelay(busyDelay))
	case postgres.Early:
		c.report(t.msg.NakWithDelay(max(s.Wait, time.Millisecond)))
	}
	c.hands.drop(t)
	t.lane.unstarting()
}
