package consume

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
)

// call makes one call and says what is to be written about it. The slot is
// freed before that is written: the limit counts calls in flight, not writes.
// It is not freed before the decision, which may hold the model back.
//
// A process that was frozen may hold tasks and slots that are others' by now.
// It makes no call that it had not begun.
func (c *Consumer) call(t *task) finished {
	if c.cfg.Lapsed != nil && c.cfg.Lapsed() {
		return givenBack(t, 0)
	}
	t.lane.metrics.calling(t)
	outcome := c.do(t)
	c.callTime.Add(int64(outcome.Elapsed))
	f := c.decide(t, outcome)
	t.lane.metrics.called(outcome, f)
	return f
}

func (c *Consumer) do(t *task) upstream.Outcome {
	to, failed := c.route(t)
	if failed != nil {
		return *failed
	}
	body, err := t.body()
	if err != nil {
		return upstream.Outcome{Reason: batch.BuilderError, Detail: err.Error()}
	}
	ctx, cancel := context.WithCancel(c.doing)
	// Beyond the processing timeout the lease is not renewed and another may
	// take over. The call's own timeout is shorter, unless it begins late.
	if c.cfg.CallTimeout == 0 || time.Since(t.started)+c.cfg.CallTimeout > c.cfg.ProcessingTimeout {
		cancel()
		ctx, cancel = context.WithDeadline(c.doing, t.started.Add(c.cfg.ProcessingTimeout))
	}
	defer cancel()
	if !t.mayCall(cancel) {
		return upstream.Outcome{Reason: batch.TaskTerminated}
	}
	failpoint.Hit(failpoint.Calling)
	return c.cfg.Caller.Do(ctx, upstream.Request{
		ID:         t.delivery.ID,
		CustomID:   t.start.Template.CustomID,
		Attempt:    t.start.Attempt,
		Generation: t.start.Generation,
		Method:     t.start.Template.Method,
		BaseURL:    to.BaseURL,
		Path:       t.start.Template.Path,
		APIKey:     to.APIKey,
		Header:     t.header(),
		Body:       body,
	})
}

// decide turns the outcome of a call into what is written about it.
func (c *Consumer) decide(t *task, o upstream.Outcome) finished {
	if t.ended() != postgres.Live {
		return finished{task: t} // cancelled meanwhile: nothing is to be written
	}
	if o.Reason == batch.TaskTerminated && c.doing.Err() != nil {
		return givenBack(t, 0) // cut off by a stop: not the request's fault
	}
	ending := &postgres.Completion{
		Delivery:      t.delivery,
		State:         batch.Completed,
		Reason:        o.Reason,
		Attempts:      t.start.Attempt + 1,
		StatusCode:    o.Response.StatusCode,
		RequestID:     o.Response.RequestID,
		AnsweredModel: o.Response.Model,
		Usage:         o.Response.Usage,
		Body:          o.Response.Body,
		Detail:        o.Detail,
	}
	if o.Reason == "" {
		return finished{task: t, ending: ending}
	}
	now := time.Now()
	c.trouble.Store(&LastError{At: now, Model: t.lane.account.Model(), Detail: o.Detail})
	if o.RetryAfter > 0 && (o.Response.StatusCode == http.StatusTooManyRequests || o.Response.StatusCode == http.StatusServiceUnavailable) {
		t.lane.account.Hold(now.Add(o.RetryAfter))
	}
	delay, denied := c.cfg.Retry.Next(o.Reason, t.start.Attempt, t.deadline.Sub(now), o.RetryAfter, rand.Float64())
	if denied != batch.Granted {
		ending.State = batch.Failed
		return finished{task: t, ending: ending, denied: denied}
	}
	return finished{task: t, back: &postgres.Release{
		Delivery: t.delivery, Retry: true, Delay: delay, Reason: o.Reason, StatusCode: o.Response.StatusCode,
	}}
}

// giveBack returns a started request without a call, for any consumer to
// start after the delay.
func (c *Consumer) giveBack(t *task, delay time.Duration) { c.finish(givenBack(t, delay)) }

func givenBack(t *task, delay time.Duration) finished {
	return finished{task: t, back: &postgres.Release{Delivery: t.delivery, Delay: delay}}
}
