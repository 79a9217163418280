package consume

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/backoff"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// defaultCancelPoll is how often the requests in flight are looked up when
// nothing hints at a cancel.
const defaultCancelPoll = 5 * time.Second

// watchCancels abandons what is in flight and has finished elsewhere, because it
// was canceled, deleted or has expired: at once when a hint says so, and at the
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
	poll := time.NewTimer(backoff.Jitter(c.cfg.CancelPoll))
	defer poll.Stop()
	pause := backoff.New(minRetryPause, maxRetryPause)
	for {
		var tasks []*task
		select {
		case <-ctx.Done():
			return nil
		case <-c.look.C():
			tasks = c.inflight.suspected()
		case <-poll.C:
			tasks = c.inflight.all()
			poll.Reset(backoff.Jitter(c.cfg.CancelPoll))
		}
		if err := c.checkLiveness(ctx, tasks); err == nil {
			pause.Reset()
		} else if ctx.Err() == nil {
			c.cfg.Log.Warn("looking for cancelled requests", "err", err)
			_ = pause.Wait(ctx)
			poll.Reset(0)
		}
	}
}

// hinted marks the requests in flight that a hint is about.
func (c *Consumer) hinted(msg *nats.Msg) {
	id, err := streams.ParseHintCancel(msg.Subject)
	if err != nil {
		return
	}
	if c.inflight.suspect(id, lineNumbers(msg.Data)) {
		c.look.Notify()
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

// checkLiveness looks the tasks up and abandons those that have finished or were
// taken over elsewhere: their calls are aborted, and nothing is written about
// them.
func (c *Consumer) checkLiveness(ctx context.Context, tasks []*task) error {
	step := c.cfg.Watch.Step("looking for cancelled requests")
	defer step.End()
	liveness, err := c.cfg.Store.CheckLiveness(ctx, deliveriesOf(tasks))
	if err != nil {
		return err
	}
	for i, t := range tasks {
		if liveness[i] != postgres.Live {
			t.abort(liveness[i])
		}
	}
	for _, p := range c.openPools() {
		p.abandonEnded()
	}
	return nil
}
