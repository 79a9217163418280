package consume

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

func TestRetries(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	retries := 3
	r := c.start(func(cfg *Config) { cfg.Retry.MaxRetries = &retries })
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
		switch {
		case c.customID == "final":
			w.WriteHeader(http.StatusBadRequest)
		case c.customID == "always", c.customID == "twice" && c.nth < 2:
			w.WriteHeader(http.StatusInternalServerError)
		case c.customID == "cut" && c.nth == 0:
			panic(http.ErrAbortHandler)
		case c.customID == "changing" && c.nth < 3:
			w.WriteHeader(http.StatusServiceUnavailable)
		case c.customID == "changing":
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
		fmt.Fprint(w, testenv.ChatAnswer(fmt.Sprint("answer ", c.nth)))
	})
	var requests []batch.Template
	for _, customID := range []string{"good", "final", "always", "twice", "cut", "changing"} {
		requests = append(requests, line(customID, testModel))
	}
	results := c.AwaitEnd(c.Begin(requests))

	ok := func(attempts int) batch.Result {
		return batch.Result{State: batch.Completed, StatusCode: 200, Attempts: attempts, Body: []byte(testenv.ChatAnswer(fmt.Sprint("answer ", attempts-1)))}
	}
	failed := func(reason batch.Reason, status, attempts int) batch.Result {
		return batch.Result{
			State: batch.Failed, Reason: reason, StatusCode: status, Attempts: attempts,
			Body: []byte(testenv.ChatAnswer(fmt.Sprint("answer ", attempts-1))), Detail: fmt.Sprintf("upstream answered with status %d", status),
		}
	}
	for customID, want := range map[string]batch.Result{
		"good": ok(1), "twice": ok(3), "cut": ok(2),
		"final":    failed(batch.NonRetriableHTTPStatus, 400, 1),
		"always":   failed(batch.RetriableHTTPStatus, 500, 4),
		"changing": failed(batch.NonRetriableHTTPStatus, 422, 4),
	} {
		got := results[customID]
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(batch.Result{}, "ID", "Seq", "CustomID")); diff != "" {
			t.Errorf("%s: result (-want +got):\n%s", customID, diff)
		}
		calls := c.endpoint.of(customID)
		if len(calls) != want.Attempts {
			t.Errorf("%s: %d calls, want %d", customID, len(calls), want.Attempts)
		}
		for i, call := range calls {
			if key := fmt.Sprintf("%s-%d", got.ID, i); call.attempt != i || call.header.Get("Idempotency-Key") != key {
				t.Errorf("%s: call %d says attempt %d, key %s", customID, i, call.attempt, call.header.Get("Idempotency-Key"))
			}
		}
	}
	until(t, "the stream is empty", func() bool { return c.Queued() == 0 })
	if s := r.Stats(); s.Completed != 3 || s.Failed != 3 || s.Retried != 9 || s.Fenced != 0 || s.LastError == nil {
		t.Errorf("stats are %+v, want 3 completed, 3 failed, 9 retried", s)
	}
}

// The batch expires before the first backoff would end.
func TestRetriesEndAtTheDeadline(t *testing.T) {
	t.Parallel()
	ptr := func(d time.Duration) *time.Duration { return &d }
	for name, tt := range map[string]struct {
		stop *time.Duration
		want batch.State
	}{
		"stops at the deadline":      {ptr(0), batch.Failed},
		"stops long before it":       {ptr(time.Hour), batch.Failed},
		"goes on for a buffer":       {ptr(-time.Hour), batch.Completed},
		"the deadline plays no part": {nil, batch.Completed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const window = 3 * time.Second
			c := newCluster(t)
			c.start(func(cfg *Config) {
				cfg.Retry.StopBeforeDeadline, cfg.Retry.Backoff, cfg.Retry.MaxBackoff = tt.stop, window, window
			})
			c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
				if c.nth == 0 {
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			results := c.AwaitEnd(c.Begin(lines(1, testModel), func(n *postgres.NewBatch) { n.CompletionWindow = window }))
			got, calls := results["r0"], len(c.endpoint.all())
			if got.State != tt.want || got.Attempts != calls {
				t.Errorf("the request is %s after %d attempts and %d calls, want %s", got.State, got.Attempts, calls, tt.want)
			}
			if tt.want == batch.Failed && (calls != 1 || got.Reason != batch.RetriableHTTPStatus || got.StatusCode != 500) {
				t.Errorf("%d calls, then it failed for %s, status %d; want 1 call and its own reason", calls, got.Reason, got.StatusCode)
			}
		})
	}
}
