package consume

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
)

const testBackoff = 10 * time.Second

// decided is what a decision comes to.
type decided struct {
	State  batch.State // "": it goes back to the stream
	Reason batch.Reason
	Retry  bool
	// Least and Most bound the delay of what goes back.
	Least, Most time.Duration
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const jittered = testBackoff + testBackoff/5
	retry := func(reason batch.Reason) decided {
		return decided{Reason: reason, Retry: true, Least: testBackoff, Most: jittered}
	}
	failed := func(reason batch.Reason) decided { return decided{State: batch.Failed, Reason: reason} }
	status := func(code int, reason batch.Reason) upstream.Outcome {
		return upstream.Outcome{Response: upstream.Response{StatusCode: code, Body: []byte("no")}, Reason: reason, Detail: "status"}
	}
	broken := func(reason batch.Reason) upstream.Outcome { return upstream.Outcome{Reason: reason, Detail: "broken"} }
	asked := func(o upstream.Outcome, wait time.Duration) upstream.Outcome {
		o.RetryAfter = wait
		return o
	}
	ptr := func(d time.Duration) *time.Duration { return &d }

	for name, tt := range map[string]struct {
		outcome   upstream.Outcome
		attempt   int
		remaining time.Duration
		stop      *time.Duration // StopBeforeDeadline
		stopped   bool           // calls are being cut off
		want      decided
	}{
		"completed":                       {outcome: status(200, ""), want: decided{State: batch.Completed}},
		"completed past the deadline":     {outcome: status(200, ""), remaining: -time.Hour, stop: ptr(0), want: decided{State: batch.Completed}},
		"completed while cut off":         {outcome: status(200, ""), stopped: true, want: decided{State: batch.Completed}},
		"503":                             {outcome: status(503, batch.RetriableHTTPStatus), want: retry(batch.RetriableHTTPStatus)},
		"503, last retry":                 {outcome: status(503, batch.RetriableHTTPStatus), attempt: 2, want: retry(batch.RetriableHTTPStatus)},
		"503, no retry left":              {outcome: status(503, batch.RetriableHTTPStatus), attempt: 3, want: failed(batch.RetriableHTTPStatus)},
		"400":                             {outcome: status(400, batch.NonRetriableHTTPStatus), want: failed(batch.NonRetriableHTTPStatus)},
		"network error":                   {outcome: broken(batch.NetworkError), want: retry(batch.NetworkError)},
		"network error, no retry left":    {outcome: broken(batch.NetworkError), attempt: 3, want: failed(batch.NetworkError)},
		"timeout":                         {outcome: broken(batch.Timeout), want: retry(batch.Timeout)},
		"builder error":                   {outcome: broken(batch.BuilderError), want: failed(batch.BuilderError)},
		"cut off by a stop":               {outcome: broken(batch.TaskTerminated), stopped: true, want: decided{}},
		"cut off by a stop, none left":    {outcome: broken(batch.TaskTerminated), attempt: 3, stopped: true, want: decided{}},
		"cut off by the processing limit": {outcome: broken(batch.TaskTerminated), want: retry(batch.TaskTerminated)},
		"timeout during a stop":           {outcome: broken(batch.Timeout), stopped: true, want: retry(batch.Timeout)},

		"deadline, time enough":             {outcome: broken(batch.Timeout), remaining: time.Minute, stop: ptr(0), want: retry(batch.Timeout)},
		"deadline within the backoff":       {outcome: broken(batch.Timeout), remaining: testBackoff / 2, stop: ptr(0), want: failed(batch.Timeout)},
		"stop before the deadline":          {outcome: broken(batch.Timeout), remaining: time.Minute, stop: ptr(time.Minute), want: failed(batch.Timeout)},
		"deadline past, within the buffer":  {outcome: broken(batch.Timeout), remaining: -time.Minute, stop: ptr(-time.Hour), want: retry(batch.Timeout)},
		"deadline past, buffer used up":     {outcome: broken(batch.Timeout), remaining: -time.Hour, stop: ptr(-time.Minute), want: failed(batch.Timeout)},
		"deadline past, plays no part":      {outcome: broken(batch.Timeout), remaining: -time.Hour, want: retry(batch.Timeout)},
		"asked to wait beyond the deadline": {outcome: asked(status(429, batch.RetriableHTTPStatus), time.Hour), remaining: time.Minute, stop: ptr(0), want: failed(batch.RetriableHTTPStatus)},

		"asked to wait longer than the backoff": {outcome: asked(status(429, batch.RetriableHTTPStatus), time.Hour), want: decided{Reason: batch.RetriableHTTPStatus, Retry: true, Least: time.Hour, Most: time.Hour}},
		"asked to wait less":                    {outcome: asked(status(503, batch.RetriableHTTPStatus), time.Second), want: retry(batch.RetriableHTTPStatus)},
		"asked to wait, final":                  {outcome: asked(status(400, batch.NonRetriableHTTPStatus), time.Hour), want: failed(batch.NonRetriableHTTPStatus)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, task := decide(t, tt.outcome, tt.attempt, tt.remaining, tt.stop, tt.stopped)
			if got.task != task {
				t.Error("the decision is about another task")
			}
			if (got.ending == nil) == (got.back == nil) {
				t.Fatalf("ending %+v and return %+v, want one of them", got.ending, got.back)
			}
			if got.ending != nil {
				want := &postgres.Completion{
					Delivery: task.delivery, State: tt.want.State, Reason: tt.want.Reason, Attempts: tt.attempt + 1,
					StatusCode: tt.outcome.Response.StatusCode, Body: tt.outcome.Response.Body, Detail: tt.outcome.Detail,
				}
				if diff := cmp.Diff(want, got.ending); diff != "" {
					t.Errorf("ending (-want +got):\n%s", diff)
				}
				return
			}
			if delay := got.back.Delay; delay < tt.want.Least || delay > tt.want.Most {
				t.Errorf("delay is %v, want %v to %v", delay, tt.want.Least, tt.want.Most)
			}
			want := &postgres.Release{Delivery: task.delivery, Retry: tt.want.Retry, Delay: got.back.Delay, Reason: tt.want.Reason}
			if tt.want.Retry {
				want.StatusCode = tt.outcome.Response.StatusCode
			}
			if diff := cmp.Diff(want, got.back); diff != "" || tt.want.State != "" {
				t.Errorf("want state %q; return (-want +got):\n%s", tt.want.State, diff)
			}
		})
	}
}

// decide asks a consumer with up to three retries.
func decide(t testing.TB, o upstream.Outcome, attempt int, remaining time.Duration, stop *time.Duration, stopped bool) (finished, *task) {
	t.Helper()
	retries := 3
	doing, stopDoing := context.WithCancel(context.Background())
	defer stopDoing()
	if stopped {
		stopDoing()
	}
	c := &Consumer{doing: doing, cfg: Config{Retry: batch.RetryPolicy{
		MaxRetries: &retries, StopBeforeDeadline: stop, Backoff: testBackoff, Factor: 1, MaxBackoff: testBackoff,
	}}}
	task := &task{
		lane:     &lane{c: c, account: new(slots.Account)},
		delivery: postgres.Delivery{ID: batch.RequestID{Batch: batch.ID{1}, Line: 7}, Claim: 2, Number: 3},
		start:    postgres.Start{Attempt: attempt},
		deadline: time.Now().Add(remaining),
	}
	return c.decide(task, o), task
}

// Whatever comes of a call, its request has a future: it ends, or goes back.
func TestDecideLosesNothing(t *testing.T) {
	t.Parallel()
	reasons := []batch.Reason{
		"", batch.RetriableHTTPStatus, batch.NonRetriableHTTPStatus, batch.NetworkError, batch.Timeout, batch.TaskTerminated, batch.BuilderError,
	}
	rapid.Check(t, func(rt *rapid.T) {
		o := upstream.Outcome{
			Reason:     rapid.SampledFrom(reasons).Draw(rt, "reason"),
			Response:   upstream.Response{StatusCode: rapid.SampledFrom([]int{0, 200, 400, 404, 429, 500, 503}).Draw(rt, "status")},
			RetryAfter: time.Duration(rapid.Int64Range(0, int64(upstream.MaxRetryAfter)).Draw(rt, "retry after")),
		}
		var stop *time.Duration
		if rapid.Bool().Draw(rt, "deadline counts") {
			d := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(rt, "stop before"))
			stop = &d
		}
		attempt := rapid.IntRange(0, 5).Draw(rt, "attempt")
		remaining := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(48*time.Hour)).Draw(rt, "remaining"))
		got, _ := decide(t, o, attempt, remaining, stop, rapid.Bool().Draw(rt, "stopped"))
		switch {
		case (got.ending == nil) == (got.back == nil):
			rt.Fatalf("ending %+v and return %+v, want one of them", got.ending, got.back)
		case got.ending != nil && (got.ending.State == batch.Completed) != (o.Reason == ""):
			rt.Errorf("reason %q ends as %s", o.Reason, got.ending.State)
		case got.back != nil && got.back.Retry && (attempt >= 3 || !o.Reason.Retriable()):
			rt.Errorf("attempt %d is retried for %q", attempt, o.Reason)
		case got.back != nil && got.back.Retry && got.back.Delay < max(o.RetryAfter, testBackoff):
			rt.Errorf("delay %v, the upstream asked for %v", got.back.Delay, o.RetryAfter)
		}
	})
}

func TestRetryAfterHoldsTheModel(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		reason batch.Reason
		after  time.Duration
		held   bool
	}{
		"429":                   {http.StatusTooManyRequests, batch.RetriableHTTPStatus, time.Hour, true},
		"503":                   {http.StatusServiceUnavailable, batch.RetriableHTTPStatus, time.Hour, true},
		"429, never retried":    {http.StatusTooManyRequests, batch.NonRetriableHTTPStatus, time.Hour, true},
		"429 without a time":    {http.StatusTooManyRequests, batch.RetriableHTTPStatus, 0, false},
		"500":                   {http.StatusInternalServerError, batch.RetriableHTTPStatus, time.Hour, false},
		"408":                   {http.StatusRequestTimeout, batch.RetriableHTTPStatus, time.Hour, false},
		"no answer: no request": {0, batch.NetworkError, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outcome := upstream.Outcome{Response: upstream.Response{StatusCode: tt.status}, Reason: tt.reason, RetryAfter: tt.after}
			_, task := decide(t, outcome, 0, 0, nil, false)
			if hold := task.lane.account.Standing().Hold; (hold > 0) != tt.held || hold > tt.after {
				t.Errorf("the model is held for %v; asked for %v, want held: %t", hold, tt.after, tt.held)
			}
		})
	}
}
