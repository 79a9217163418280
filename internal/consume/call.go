package consume

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/hold"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
)

// credentialPause is the shortest backoff of a request without a key: other
// consumers may have it, and an operator may mend it.
const credentialPause = 5 * time.Second

// localPause is how long a request waits for another start, here or in another
// consumer, that this process had no file descriptors or ports for.
const localPause = time.Second

// made is a call that was made, or that there was no need to make.
type made struct {
	to      upstream.Target
	began   time.Time
	mark    slots.Mark
	request upstream.Request
	outcome upstream.Outcome
}

// call makes one call. Nil: a process that was frozen may hold tasks and slots that
// are others' by now, so it made none that it had not begun.
//
// Of tens of thousands of calls that only wait, this and what it calls are the
// stacks. What is done with the outcome is therefore in conclude, and nothing here
// keeps an outcome or a decision on the stack.
func (c *Consumer) call(t *task) *made {
	if c.cfg.Lapsed != nil && c.cfg.Lapsed() {
		t.permits.cancel()
		return nil
	}
	t.pool.metrics.calling(t)
	m := &made{began: time.Now(), mark: t.pool.account.CallBegins()}
	c.do(t, m)
	return m
}

// conclude decides about the request of a call. The capacity is not freed before the
// decision, and before a hold that the call has earned. healthy tells a ramp that
// the endpoint can take more; pause is for how long the slot is kept.
func (c *Consumer) conclude(t *task, m *made) (d decision, healthy bool, pause time.Duration) {
	if m == nil {
		return released(t, 0), false, 0
	}
	outcome := &m.outcome
	t.permits.settle(outcome)
	c.callTime.Add(int64(outcome.Elapsed))
	d = c.observe(t, t.holdCall(credentialAt(t, m.to)), m.began, outcome, c.decide(t, *outcome))
	t.pool.account.CallEnds(m.mark, outcomeOf(outcome, t.start.HasOwnKey, d.kind == abandon || outcome.Reason == batch.TaskTerminated))
	c.refusals.add(t.pool.account.Model(), outcome, d.kind == fail, time.Now())
	if asked := askedPause(outcome); asked > 0 && d.kind != abandon {
		h := hold.Hold{Models: []batch.Model{t.pool.account.Model()}, Status: outcome.Response.StatusCode}
		if t.start.HasOwnKey {
			h.Batch = t.delivery.ID.Batch
		}
		if c.holds.Place(credentialAt(t, m.to), h, asked) {
			t.pool.metrics.placed(h.Status)
		}
	}
	t.pool.metrics.called(*outcome, d)
	c.logFailure(t, outcome, d)
	healthy = outcome.Refusal == nil && outcome.Response.StatusCode > 0 && outcome.Response.StatusCode < 500 && outcome.Response.StatusCode != http.StatusTooManyRequests
	return d, healthy, t.pool.brake.after(t, outcome, d.kind)
}

// logFailure logs the first call to a model that fails in some way, and then how many
// do: a line for each would bury what matters. Who asks for the others finds them in
// results.
func (c *Consumer) logFailure(t *task, o *upstream.Outcome, d decision) {
	if o.Reason == "" || o.Reason == batch.TaskTerminated || d.kind == abandon {
		return
	}
	level, again := slog.LevelWarn, d.kind != fail
	if o.Reason == batch.NonRetriableHTTPStatus && o.Refusal == nil {
		level = slog.LevelInfo // most likely for what the request is
	}
	c.often.Add(level, "a call failed; more like it are counted", []any{
		"model", t.pool.account.Model(), "reason", o.Reason, "status", o.Response.StatusCode, "called_again", again,
	}, "batch_id", t.delivery.ID.Batch, "detail", o.Detail)
}

// statusOverloaded is what some endpoints answer where others answer 503.
const statusOverloaded = 529

// askedPause is for how long the endpoint asked to leave it alone; 0: it did not.
func askedPause(o *upstream.Outcome) time.Duration {
	switch o.Response.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, statusOverloaded:
		return cmp.Or(o.RetryAfter, o.Exhausted)
	}
	return o.Exhausted
}

// credentialOf is the credential that the task's call would have now.
func (c *Consumer) credentialOf(t *task) hold.Key {
	to, ok := c.cfg.Resolve(t.pool.account.Model())
	if !ok {
		return ""
	}
	return credentialAt(t, to)
}

func credentialAt(t *task, to upstream.Target) hold.Key {
	if to.BaseURL == "" {
		return ""
	}
	if t.start.HasOwnKey {
		return hold.BatchKey(t.delivery.ID.Batch, to.BaseURL, to.Options.Credentials())
	}
	known := t.pool.credential.Load()
	if known == nil || known.to != to {
		known = &credential{to, hold.EndpointKey(to.BaseURL, to.APIKey, to.Options.Credentials())}
		t.pool.credential.Store(known)
	}
	return known.key
}

// credential is what the requests of a pool without a key of their own are
// called with, as it was last looked up.
type credential struct {
	to  upstream.Target
	key hold.Key
}

func (c *Consumer) do(t *task, m *made) {
	if failed := c.resolve(t, m); failed != nil {
		m.outcome = *failed
		return
	}
	ctx, cancel := context.WithCancel(c.doing)
	defer cancel()
	if !t.mayCall(cancel) {
		m.outcome.Reason = batch.TaskTerminated
		return
	}
	failpoint.Hit(failpoint.Calling)
	span := c.prepare(t, m)
	c.cfg.Caller.Make(ctx, &m.request, &m.outcome)
	endCall(span, &m.outcome, t.liveness() == postgres.Ended)
}

// prepare makes the request of a call, and begins its span.
func (c *Consumer) prepare(t *task, m *made) trace.Span {
	model := m.to.Model(t.pool.account.Model())
	span := t.traceCall(&m.to, model)
	m.request = upstream.Request{
		ID:         t.delivery.ID,
		CustomID:   t.start.Template.CustomID,
		Attempt:    t.start.Attempt,
		Generation: t.start.Generation,
		Method:     t.start.Template.Method,
		BaseURL:    m.to.BaseURL,
		Path:       t.start.Template.Path,
		Model:      string(model),
		Rename:     model != t.start.Template.Model,
		APIKey:     m.to.APIKey,
		OwnKey:     t.start.HasOwnKey,
		Options:    m.to.Options,
		Header:     t.header(span),
		Deadline:   t.start.Deadline,
		Body:       t.start.Template.Body,
		Streams:    &t.streams,
	}
	return span
}

// resolve finds out where the task's call goes and with which key; it returns the
// outcome if there can be no call.
//
// A key that cannot be had now costs an attempt like an endpoint that is away:
// the request waits out its backoffs, in this consumer or another, and fails
// with its last retry or near its deadline. A batch with a key of its own is
// never called with another one.
func (c *Consumer) resolve(t *task, m *made) *upstream.Outcome {
	var ok bool
	if m.to, ok = c.cfg.Resolve(t.pool.account.Model()); !ok {
		return &upstream.Outcome{Reason: batch.BuilderError, Detail: noEndpoint, Cause: noEndpoint,
			Refusal: &upstream.Refusal{Kind: batch.CauseNoEndpoint, Cause: noEndpoint}}
	}
	switch {
	case m.to.Unusable != "" && (m.to.BaseURL == "" || !t.start.HasOwnKey):
		return unavailable(m.to.Unusable)
	case t.start.HasOwnKey:
		return c.withBatchKey(t, &m.to)
	}
	return nil
}

const noEndpoint = "no upstream is configured for this model"

func (c *Consumer) withBatchKey(t *task, to *upstream.Target) *upstream.Outcome {
	if c.cfg.BatchKey == nil {
		return unavailable("this consumer cannot read the API keys of batches")
	}
	if to.Unproven != "" {
		return unavailable(to.Unproven)
	}
	key, err := c.cfg.BatchKey(c.doing, t.delivery.ID.Batch, t.start.Generation)
	switch {
	case errors.Is(err, batch.ErrNotFound):
		return &upstream.Outcome{Reason: batch.BuilderError, Detail: "the API key that the batch brought was removed"}
	case err != nil && c.doing.Err() != nil:
		return &upstream.Outcome{Reason: batch.TaskTerminated}
	case err != nil:
		return unavailable("the API key that the batch brought cannot be used: " + err.Error())
	}
	to.APIKey = key
	return nil
}

func unavailable(detail string) *upstream.Outcome {
	return &upstream.Outcome{Reason: batch.CredentialUnavailable, Detail: detail, RetryAfter: credentialPause}
}

// decide turns the outcome of a call into what happens to its request.
func (c *Consumer) decide(t *task, o upstream.Outcome) decision {
	if t.liveness() != postgres.Live {
		return decision{kind: abandon, task: t} // canceled meanwhile: nothing is to be stored
	}
	if o.Reason == batch.TaskTerminated && c.doing.Err() != nil {
		return released(t, 0) // cut off by a stop: not the request's fault
	}
	if o.Reason == batch.LocalError {
		c.lastError.Store(&LastError{At: time.Now(), Model: t.pool.account.Model(), Detail: o.Detail})
		return released(t, localPause) // nor is this, nor the endpoint's: it costs no attempt
	}
	d := decision{kind: complete, task: t, completion: postgres.Completion{
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
		Cause:         o.Cause,
	}}
	if o.Reason == "" {
		return d
	}
	now := time.Now()
	c.lastError.Store(&LastError{At: now, Model: t.pool.account.Model(), Detail: o.Detail})
	retryAfter := min(o.RetryAfter, c.cfg.MaxHold)
	delay, denied := c.cfg.Retry.Next(o.Reason, t.start.Attempt, t.deadline.Sub(now), retryAfter, rand.Float64())
	if denied != batch.Granted {
		d.kind, d.denied, d.completion.State = fail, denied, batch.Failed
		return d
	}
	return decision{kind: retry, task: t, release: postgres.Release{
		Delivery: t.delivery, Retry: true, Delay: delay, Due: t.waitsInPostgres(delay), Reason: o.Reason, StatusCode: o.Response.StatusCode, Cause: o.Cause,
	}}
}
