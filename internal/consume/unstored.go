package consume

import (
	"log/slog"
	"sync"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

const minUnstoredPause, maxUnstoredPause = 500 * time.Millisecond, 30 * time.Second

// unstored keeps the decisions that Postgres refuses by themselves for a cause
// other than their content: a constraint that another transaction raced for, an
// internal error on one row. Each is tried again, alone, until it is written or
// the consumer stops: an answer that was paid for is never given up. They stay
// in the registry of what is in flight, which bounds their number and bytes.
type unstored struct {
	added notify.Signal

	mu     sync.Mutex
	items  []unstoredItem
	closed bool // nothing is added any more
}

type unstoredItem struct {
	decision decision
	pause    *backoff.Backoff
	next     time.Time // when it is tried again
}

func (u *unstored) add(i unstoredItem) {
	i.next = time.Now().Add(i.pause.Next())
	u.mu.Lock()
	u.items = append(u.items, i)
	u.mu.Unlock()
	u.added.Notify()
}

// close says that nothing is added any more; what there is, is tried at once.
func (u *unstored) close() {
	u.mu.Lock()
	u.closed = true
	for i := range u.items {
		u.items[i].next = time.Time{}
	}
	u.mu.Unlock()
	u.added.Notify()
}

// take removes the item that is to be tried first and returns it, if its time
// has come; else how long to wait. False: there is none and none will come.
func (u *unstored) take(now time.Time) (item unstoredItem, wait time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.items) == 0 {
		return item, time.Hour, !u.closed
	}
	first := 0
	for i := range u.items {
		if u.items[i].next.Before(u.items[first].next) {
			first = i
		}
	}
	item = u.items[first]
	if wait = item.next.Sub(now); wait > 0 {
		return unstoredItem{}, wait, true
	}
	last := len(u.items) - 1
	u.items[first], u.items[last] = u.items[last], unstoredItem{}
	u.items = u.items[:last]
	return item, 0, true
}

// writeUnstored tries the decisions that were set apart until all are written
// and none will come, or writing ends.
func (c *Consumer) writeUnstored() {
	for {
		item, wait, ok := c.unstored.take(time.Now())
		if !ok {
			return
		}
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-c.unstored.added.C():
			case <-c.writing.Done():
				c.dropUnstored()
				timer.Stop()
				return
			}
			timer.Stop()
			continue
		}
		items := []decision{item.decision}
		_, err := c.writeFinishes(items)
		class := postgres.Classify(err)
		switch {
		case err == nil:
			c.often.Add(slog.LevelInfo, "result that was refused is written", nil, "request_id", item.decision.task.delivery.ID)
		case class == postgres.Content:
			c.setApart(items[0], class, err)
		default:
			c.metrics.storeFailed("result", class)
			c.unstored.add(item)
		}
	}
}

func (c *Consumer) dropUnstored() {
	c.unstored.mu.Lock()
	defer c.unstored.mu.Unlock()
	items := make([]decision, len(c.unstored.items))
	for i := range items {
		items[i] = c.unstored.items[i].decision
	}
	c.unstored.items = nil
	c.dropFinishes(items)
}

// setApart takes a decision that Postgres refuses by itself. If it is for the
// content, which the endpoint sent, its request fails without it. If it is not,
// it is kept and tried again.
func (c *Consumer) setApart(d decision, class postgres.Class, err error) {
	bare := d.completion.Body == nil && d.completion.RequestID == "" && d.completion.AnsweredModel == ""
	if class == postgres.Content && (d.kind == complete || d.kind == fail) && !bare {
		c.metrics.dropped(telemetry.DroppedResponse, 1)
		c.often.Add(slog.LevelError, "response could not be stored", []any{"model", d.task.pool.account.Model()}, "request_id", d.task.delivery.ID, "err", err)
		d = decision{kind: fail, task: d.task, completion: postgres.Completion{
			Delivery: d.completion.Delivery, State: batch.Failed, Reason: batch.ResponseUnstorable,
			Attempts: d.completion.Attempts, StatusCode: d.completion.StatusCode, Usage: d.completion.Usage,
			Detail: "the response could not be stored",
		}}
		c.finishFlusher().flush(c.writing, []decision{d})
		return
	}
	c.often.Add(slog.LevelError, "result was refused; it is kept and tried again alone", []any{"class", class.String()},
		"request_id", d.task.delivery.ID, "err", err)
	c.unstored.add(unstoredItem{decision: d, pause: backoff.New(minUnstoredPause, maxUnstoredPause)})
}
