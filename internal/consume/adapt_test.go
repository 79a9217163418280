package consume

import (
	"testing"
	"time"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
)

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	answered := func(status int) upstream.Outcome {
		return upstream.Outcome{Reason: batch.RetriableHTTPStatus, Response: upstream.Response{StatusCode: status}, Elapsed: time.Second, RetryAfter: time.Minute}
	}
	failed := func(cause adaptive.Cause) slots.Outcome {
		return slots.Outcome{Took: time.Second, Congestion: cause, Pause: time.Minute}
	}
	completed := func(prompt, completion int64) upstream.Outcome {
		return upstream.Outcome{Elapsed: time.Second, Response: upstream.Response{StatusCode: 200, Usage: batch.Usage{PromptTokens: prompt, CompletionTokens: completion}}}
	}
	for name, test := range map[string]struct {
		outcome   upstream.Outcome
		ownKey    bool
		abandoned bool
		want      slots.Outcome
	}{
		"completed":                  {outcome: completed(7, 40), want: slots.Outcome{Took: time.Second, Completed: true, Tokens: 40}},
		"completed, an embedding":    {outcome: completed(7, 0), want: slots.Outcome{Took: time.Second, Completed: true, Tokens: 7}},
		"completed, without usage":   {outcome: completed(0, 0), want: slots.Outcome{Took: time.Second, Completed: true}},
		"429":                        {outcome: answered(429), want: failed(adaptive.Refused)},
		"429 of a batch's own key":   {outcome: answered(429), ownKey: true, want: failed("")},
		"503":                        {outcome: answered(503), want: failed(adaptive.Overloaded)},
		"503 with a batch's own key": {outcome: answered(503), ownKey: true, want: failed(adaptive.Overloaded)},
		"529":                        {outcome: answered(529), want: failed(adaptive.Overloaded)},
		"504":                        {outcome: answered(504), want: failed(adaptive.TimedOut)},
		"500":                        {outcome: answered(500), want: failed("")},
		"529 that is not retried": {outcome: upstream.Outcome{Reason: batch.NonRetriableHTTPStatus, Elapsed: time.Second, Response: upstream.Response{StatusCode: 529}},
			want: slots.Outcome{Took: time.Second, Congestion: adaptive.Overloaded}},
		"cut off": {outcome: answered(429), abandoned: true},
		"no call": {outcome: upstream.Outcome{Reason: batch.BuilderError}},
		"timeout": {outcome: upstream.Outcome{Reason: batch.Timeout, Elapsed: time.Second},
			want: slots.Outcome{Took: time.Second, Congestion: adaptive.TimedOut}},
		"refused connection": {outcome: upstream.Outcome{Reason: batch.NetworkError, Elapsed: time.Second, Refusal: &upstream.Refusal{Kind: batch.CauseConnectionRefused}},
			want: slots.Outcome{Took: time.Second, Congestion: adaptive.Unreachable}},
		"broken connection": {outcome: upstream.Outcome{Reason: batch.NetworkError, Elapsed: time.Second}, want: slots.Outcome{Took: time.Second}},
		"quota": {outcome: upstream.Outcome{Reason: batch.QuotaExhausted, Elapsed: time.Second, Response: upstream.Response{StatusCode: 429}},
			want: slots.Outcome{Took: time.Second}},
	} {
		if got := outcomeOf(&test.outcome, test.ownKey, test.abandoned); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
