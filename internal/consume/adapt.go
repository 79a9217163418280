package consume

import (
	"cmp"
	"net/http"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
	"fusillade/internal/slots"
	"fusillade/internal/upstream"
)

// outcomeOf is what an automatic limit learns from a call. abandoned: it was cut off,
// which says nothing of the endpoint.
func outcomeOf(o *upstream.Outcome, hasOwnKey, abandoned bool) slots.Outcome {
	if abandoned || o.Elapsed == 0 { // or no call was made
		return slots.Outcome{}
	}
	if o.Reason == "" {
		usage := o.Response.Usage
		return slots.Outcome{Took: o.Elapsed, Completed: true, Tokens: cmp.Or(usage.CompletionTokens, usage.PromptTokens)}
	}
	return slots.Outcome{Took: o.Elapsed, Congestion: congestionOf(o, hasOwnKey), Pause: o.RetryAfter}
}

// congestionOf says in which way a failed call shows that the endpoint has too much;
// empty: in none. A 429 of a batch's own key is about that key, whose hold it earns,
// and says nothing of the model.
func congestionOf(o *upstream.Outcome, hasOwnKey bool) adaptive.Cause {
	switch o.Reason {
	case batch.Timeout:
		return adaptive.TimedOut
	case batch.NetworkError:
		if o.Refusal != nil && o.Refusal.Kind == batch.CauseConnectionRefused {
			return adaptive.Unreachable
		}
	case batch.RetriableErrorBody:
		if !hasOwnKey {
			return adaptive.Overloaded
		}
	case batch.RetriableHTTPStatus, batch.NonRetriableHTTPStatus: // what is not retried is too much all the same
		switch o.Response.StatusCode {
		case http.StatusTooManyRequests:
			if !hasOwnKey {
				return adaptive.Refused
			}
		case http.StatusServiceUnavailable, statusOverloaded:
			return adaptive.Overloaded
		case http.StatusGatewayTimeout:
			return adaptive.TimedOut
		}
	}
	return ""
}
