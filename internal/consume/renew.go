package consume

import (
	"context"
	"time"
)

// maxRenewPause is the longest pause between looks for starts to renew.
const maxRenewPause = 5 * time.Second

// renewStarts tells Postgres of calls whose streamed answers keep coming, so that
// their processing timeout begins anew. One that could not be told of is cut off
// at the timeout, since another consumer may then call its request.
func (c *Consumer) renewStarts(ctx context.Context) error {
	tick := time.NewTicker(min(c.cfg.ProcessingTimeout/12, maxRenewPause))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		tasks := c.inflight.streaming(time.Now(), c.cfg.ProcessingTimeout/3)
		if len(tasks) == 0 {
			continue
		}
		step := c.cfg.Watch.Step("renewing starts")
		began := time.Now()
		renewed, err := c.cfg.Store.RenewStarts(ctx, c.cfg.Daemon, deliveriesOf(tasks))
		step.End()
		if err != nil {
			if ctx.Err() == nil {
				c.cfg.Log.Warn("telling of calls that go on", "calls", len(tasks), "err", err)
			}
			continue // they are told of with the next part that comes
		}
		for _, t := range tasks {
			if renewed[t.delivery.ID] {
				c.inflight.restarted(t, began)
			}
		}
	}
}

// streaming returns the tasks that were started, or renewed, so long ago, and of
// whose streamed answers a part has come since it was last asked.
func (f *inflight) streaming(now time.Time, every time.Duration) []*task {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.oldest.IsZero() || now.Sub(f.oldest) < every {
		return nil
	}
	var tasks []*task
	for _, t := range f.tasks {
		if t.goesOn() && now.Sub(t.renewedStart) >= every && t.streams.Swap(false) {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// restarted records when the task's start was renewed.
func (f *inflight) restarted(t *task, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.renewedStart = at
	f.leaseAgain(t)
}
