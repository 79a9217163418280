package consume

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// defaultCancelPoll is how often the requests in hand are looked up when
// nothing hints at a cancel.
const defaultCancelPoll = 5 * time.Second

// watchCancels drops what is in hand and has ended elsewhere, because it was
// cancelled, deleted or has expired: at once when a hint says so, and at the
// poll's interval should a hint be lost. A hint says only where to look.
// Postgres decides, so that one that is late, or about a request that lives
// again, aborts nothing.
func (c *Consumer) watchCancels(ctx context.Context) error {
	for _, pattern := range streams.HintCancelPatterns() {
		hints, err := c.cfg.Conn.Subscribe(pattern, c.hinted)
		if err != nil {
			return err
		}
		defer func() { _ = hints.Unsubscribe() }()
	}
	interval := func() time.Duration { return c.cfg.CancelPoll*7/8 + rand.N(c.cfg.CancelPoll/4+1) }
	poll := time.NewTimer(interval())
	defer poll.Stop()
	pause := minRetryPause
	for {
		var tasks []*task
		select {
		case <-ctx.Done():
			return nil
		case <-c.look:
			tasks = c.hands.suspected()
		case <-poll.C:
			tasks = c.hands.all()
			poll.Reset(interval())
		}
		if err := c.dropEnded(ctx, tasks); err == nil {
			pause = minRetryPause
		} else if ctx.Err() == nil {
			c.cfg.Log.Warn("looking for cancelled requests", "err", err)
			pause = c.wait(ctx, pause)
			poll.Reset(0)
		}
	}
}

// hinted marks the requests in hand that a hint is about.
func (c *Consumer) hinted(msg *nats.Msg) {
	id, err := streams.ParseHintCancel(msg.Subject)
	if err != nil {
		return
	}
	if c.hands.suspect(id, lineNumbers(msg.Data)) {
		select {
		case c.look <- struct{}{}:
		default:
		}
	}
}

// lineNumbers reads a hint's body. Nil means the whole batch, which is also
// what is looked up when the body cannot be read.
func lineNumbers(body []byte) map[int32]bool {
	if len(body) == 0 {
		return nil
	}
	lines := make(map[int32]bool)
	for field := range bytes.FieldsSeq(body) {
		n, err := strconv.ParseInt(string(field), 10, 32)
		if err != nil {
			return nil
		}
		lines[int32(n)] = true
	}
	return lines
}

// dropEnded looks the tasks up and drops those that have ended elsewhere:
// their calls are aborted, and nothing is written about them.
func (c *Consumer) dropEnded(ctx context.Context, tasks []*task) error {
	step := c.cfg.Watch.Step("looking for cancelled requests")
	defer step.End()
	fates, err := c.cfg.Store.CheckLiveness(ctx, deliveriesOf(tasks))
	if err != nil {
		return err
	}
	for i, t := range tasks {
		if fates[i] != postgres.Live {
			t.abort(fates[i])
		}
	}
	for _, l := range c.openLanes() {
		l.dropEnded()
	}
	return nil
}

// drop lets go of a task that has ended elsewhere.
func (c *Consumer) drop(t *task) {
	c.hands.drop(t)
	c.aborted.Add(1)
	if t.ended() == postgres.Ended {
		c.report(t.msg.Ack())
	}
	t.lane.wake()
}

// dropEnded drops the ready tasks that were found to have ended.
func (l *lane) dropEnded() {
	l.mu.Lock()
	var ended []*task
	rest := l.ready[:0]
	for _, t := range l.ready {
		if t.ended() == postgres.Live {
			rest = append(rest, t)
		} else {
			ended = append(ended, t)
		}
	}
	clear(l.ready[len(rest):])
	l.ready = rest
	ready, backlog := len(rest), l.backlog
	l.mu.Unlock()
	for _, t := range ended {
		l.c.drop(t)
	}
	if len(ended) > 0 {
		l.account.Report(ready, backlog)
	}
}

// ended is the task's fate as far as it is known.
func (t *task) ended() postgres.Liveness { return postgres.Liveness(t.fate.Load()) }

// abort records the fate of a task and cuts off its call, if it is being made.
func (t *task) abort(f postgres.Liveness) {
	t.fate.Store(int32(f))
	if t.calling.Load() {
		t.cancel()
	}
}

// mayCall reports whether the call is to be made, and lets abort cut it off
// from now on: of abort and mayCall at least one sees the other's mark.
func (t *task) mayCall(cancel context.CancelFunc) bool {
	t.cancel = cancel
	t.calling.Store(true)
	return t.ended() == postgres.Live
}

// suspect marks the tasks of these lines, or of the whole batch if lines is
// nil, to be looked up. It reports whether there are any.
func (h *hands) suspect(id batch.ID, lines map[int32]bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for request, t := range h.tasks {
		if request.Batch == id && (lines == nil || lines[request.Line]) {
			h.suspects = append(h.suspects, t)
		}
	}
	// Hints that repeat themselves must not make the list longer than what is in hand.
	if len(h.suspects) > 2*len(h.tasks) {
		h.suspects = h.listed()
	}
	return len(h.suspects) > 0
}

// suspected takes the tasks that were marked.
func (h *hands) suspected() []*task {
	h.mu.Lock()
	defer h.mu.Unlock()
	marked := h.suspects
	h.suspects = nil
	return marked
}

func (h *hands) all() []*task {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listed()
}

// listed needs the lock.
func (h *hands) listed() []*task {
	out := make([]*task, 0, len(h.tasks))
	for _, t := range h.tasks {
		out = append(out, t)
	}
	return out
}
