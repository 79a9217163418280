package consume

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
)

const (
	testBackoff = 10 * time.Second
	testMaxHold = 2 * time.Hour
)

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
	retried := func(reason batch.Reason) decided {
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
		"503":                             {outcome: status(503, batch.RetriableHTTPStatus), want: retried(batch.RetriableHTTPStatus)},
		"503, last retry":                 {outcome: status(503, batch.RetriableHTTPStatus), attempt: 2, want: retried(batch.RetriableHTTPStatus)},
		"503, no retry left":              {outcome: status(503, batch.RetriableHTTPStatus), attempt: 3, want: failed(batch.RetriableHTTPStatus)},
		"400":                             {outcome: status(400, batch.NonRetriableHTTPStatus), want: failed(batch.NonRetriableHTTPStatus)},
		"network error":                   {outcome: broken(batch.NetworkError), want: retried(batch.NetworkError)},
		"network error, no retry left":    {outcome: broken(batch.NetworkError), attempt: 3, want: failed(batch.NetworkError)},
		"timeout":                         {outcome: broken(batch.Timeout), want: retried(batch.Timeout)},
		"builder error":                   {outcome: broken(batch.BuilderError), want: failed(batch.BuilderError)},
		"cut off by a stop":               {outcome: broken(batch.TaskTerminated), stopped: true, want: decided{}},
		"cut off by a stop, none left":    {outcome: broken(batch.TaskTerminated), attempt: 3, stopped: true, want: decided{}},
		"cut off by the processing limit": {outcome: broken(batch.TaskTerminated), want: retried(batch.TaskTerminated)},
		"no file descriptors left":        {outcome: broken(batch.LocalError), attempt: 3, want: decided{Least: localPause, Most: localPause}},
		"timeout during a stop":           {outcome: broken(batch.Timeout), stopped: true, want: retried(batch.Timeout)},

		"deadline, time enough":             {outcome: broken(batch.Timeout), remaining: time.Minute, stop: ptr(0), want: retried(batch.Timeout)},
		"deadline within the backoff":       {outcome: broken(batch.Timeout), remaining: testBackoff / 2, stop: ptr(0), want: failed(batch.Timeout)},
		"stop before the deadline":          {outcome: broken(batch.Timeout), remaining: time.Minute, stop: ptr(time.Minute), want: failed(batch.Timeout)},
		"deadline past, within the buffer":  {outcome: broken(batch.Timeout), remaining: -time.Minute, stop: ptr(-time.Hour), want: retried(batch.Timeout)},
		"deadline past, buffer used up":     {outcome: broken(batch.Timeout), remaining: -time.Hour, stop: ptr(-time.Minute), want: failed(batch.Timeout)},
		"deadline past, plays no part":      {outcome: broken(batch.Timeout), remaining: -time.Hour, want: retried(batch.Timeout)},
		"asked to wait beyond the deadline": {outcome: asked(status(429, batch.RetriableHTTPStatus), time.Hour), remaining: time.Minute, stop: ptr(0), want: failed(batch.RetriableHTTPStatus)},

		"asked to wait longer than the backoff": {outcome: asked(status(429, batch.RetriableHTTPStatus), time.Hour), want: decided{Reason: batch.RetriableHTTPStatus, Retry: true, Least: time.Hour, Most: time.Hour}},
		"asked to wait for days":                {outcome: asked(status(429, batch.RetriableHTTPStatus), 24*time.Hour), want: decided{Reason: batch.RetriableHTTPStatus, Retry: true, Least: testMaxHold, Most: testMaxHold}},
		"asked to wait less":                    {outcome: asked(status(503, batch.RetriableHTTPStatus), time.Second), want: retried(batch.RetriableHTTPStatus)},
		"asked to wait, final":                  {outcome: asked(status(400, batch.NonRetriableHTTPStatus), time.Hour), want: failed(batch.NonRetriableHTTPStatus)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, task := decide(t, tt.outcome, tt.attempt, tt.remaining, tt.stop, tt.stopped)
			if tt.want.State != "" {
				want := decision{kind: fail, task: task, denied: got.denied, completion: postgres.Completion{
					Delivery: task.delivery, State: tt.want.State, Reason: tt.want.Reason, Attempts: tt.attempt + 1,
					StatusCode: tt.outcome.Response.StatusCode, Body: tt.outcome.Response.Body, Detail: tt.outcome.Detail,
				}}
				if tt.want.State == batch.Completed {
					want.kind = complete
				}
				if (got.denied == batch.Granted) != (want.kind == complete) {
					t.Errorf("denied is %q", got.denied)
				}
				if diff := cmp.Diff(want, got, comparable); diff != "" {
					t.Errorf("decision (-want +got):\n%s", diff)
				}
				return
			}
			delay := got.release.Delay
			if delay < tt.want.Least || delay > tt.want.Most {
				t.Errorf("delay is %v, want %v to %v", delay, tt.want.Least, tt.want.Most)
			}
			want := decision{kind: release, task: task, release: postgres.Release{Delivery: task.delivery, Delay: delay}}
			want.release.Due = delay > 0 // a consumer without slots leaves nothing in the stream to wait
			if tt.want.Retry {
				want.kind = retry
				want.release.Retry, want.release.Reason, want.release.StatusCode = true, tt.want.Reason, tt.outcome.Response.StatusCode
			}
			if diff := cmp.Diff(want, got, comparable); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// comparable lets decisions be compared; of tasks, which one it is.
var comparable = cmp.Options{
	cmp.AllowUnexported(decision{}), cmp.Comparer(func(a, b *task) bool { return a == b }), cmpopts.EquateEmpty(),
}

// decide asks a consumer with up to three retries.
func decide(t testing.TB, o upstream.Outcome, attempt int, remaining time.Duration, stop *time.Duration, stopped bool) (decision, *task) {
	t.Helper()
	retries := 3
	doing, stopDoing := context.WithCancel(context.Background())
	defer stopDoing()
	if stopped {
		stopDoing()
	}
	c := &Consumer{doing: doing, cfg: Config{MaxHold: testMaxHold, Retry: batch.RetryPolicy{
		MaxRetries: &retries, StopBeforeDeadline: stop, Backoff: testBackoff, Factor: 1, MaxBackoff: testBackoff,
	}}}
	task := &task{
		pool:     &pool{c: c, account: new(slots.Account)},
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
		stored := got.kind == complete || got.kind == fail
		switch {
		case !stored && got.kind != retry && got.kind != release:
			rt.Fatalf("the decision is %+v", got)
		case stored && (got.kind == complete) != (o.Reason == ""), stored && (got.completion.State == batch.Completed) != (o.Reason == ""):
			rt.Errorf("reason %q is kind %d and ends as %s", o.Reason, got.kind, got.completion.State)
		case got.kind == retry && (attempt >= 3 || !o.Reason.Retriable() || !got.release.Retry):
			rt.Errorf("attempt %d is retried for %q: %+v", attempt, o.Reason, got.release)
		case got.kind == retry && got.release.Delay < max(min(o.RetryAfter, testMaxHold), testBackoff):
			rt.Errorf("delay %v, the upstream asked for %v", got.release.Delay, o.RetryAfter)
		}
	})
}

func TestAskedPause(t *testing.T) {
	t.Parallel()
	for status, pauses := range map[int]bool{0: false, 200: false, 404: false, 408: false, 429: true, 500: false, 502: false, 503: true, 504: false, 529: true} {
		o := upstream.Outcome{Response: upstream.Response{StatusCode: status}, RetryAfter: time.Hour}
		if got := askedPause(&o); (got == time.Hour) != pauses {
			t.Errorf("status %d with Retry-After asks for a pause of %v", status, got)
		}
		o.RetryAfter = 0
		if got := askedPause(&o); got != 0 {
			t.Errorf("status %d without Retry-After asks for a pause of %v", status, got)
		}
	}
}
