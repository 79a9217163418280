package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"fusillade/internal/batch"
)

// Outcome is the classified end of one call.
//
// A body longer than Config.MaxResponseBytes is dropped, and Detail says so.
// If the status is one to retry it is retried like any other of that status;
// else the reason is non_retriable_http_status, even for status 200: the next
// attempt would most likely be as long, and be paid for as well.
type Outcome struct {
	// Response is the zero value unless an answer was received to the end.
	Response Response
	// Reason is empty if the request completed.
	Reason batch.Reason
	// Detail says in words what went wrong. It is valid UTF-8 and safe to store
	// and to log: it holds nothing of body, key, credentials or query.
	Detail string
	// RetryAfter is how long the upstream asked to wait, at most
	// MaxRetryAfter; zero if it did not ask or the request completed.
	RetryAfter time.Duration
	// Refusal is set if the calls that follow will end likewise until a person
	// does something.
	Refusal *Refusal
	Elapsed time.Duration
}

// Response is an answer, received to the end.
type Response struct {
	StatusCode int
	Body       []byte
	RequestID  string      // the upstream's own id (X-Request-Id); valid UTF-8
	Model      string      // the model that answered, as the body says; empty: it does not
	Usage      batch.Usage // zero where the body has none
}

const (
	maxDetailBytes = 512
	maxNameBytes   = 512
)

func (c *Client) classify(resp *http.Response, body []byte, tooLarge bool) Outcome {
	response := Response{
		StatusCode: resp.StatusCode,
		Body:       body,
		RequestID:  text(resp.Header.Get("X-Request-Id"), maxNameBytes),
	}
	response.Model, response.Usage = readUsage(body)

	outcome := Outcome{Response: response}
	switch {
	case c.cfg.ShouldRetry(response):
		outcome.Reason = batch.RetriableHTTPStatus
	case resp.StatusCode >= http.StatusBadRequest || tooLarge:
		outcome.Reason = batch.NonRetriableHTTPStatus
	default:
		return outcome
	}
	outcome.RetryAfter = retryAfter(resp.Header, time.Now())
	outcome.Refusal = refusalOf(resp.StatusCode, body)
	outcome.Detail = fmt.Sprintf("upstream answered with status %d", resp.StatusCode)
	if tooLarge {
		outcome.Detail += fmt.Sprintf(" and a body of more than %d bytes, which was dropped", c.cfg.MaxResponseBytes)
	}
	return outcome
}

// broken classifies a call that got no complete answer. ctx is the call's own.
func (c *Client) broken(ctx context.Context, doing string, err error) Outcome {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return Outcome{Reason: batch.NetworkError, Detail: detail(doing + ": " + describe(err)), Refusal: unreachable(err)}
	case errors.Is(cause, errTimeout):
		return Outcome{Reason: batch.Timeout, Detail: fmt.Sprintf("timed out after %v %s", c.cfg.Timeout, doing)}
	}
	return Outcome{Reason: batch.TaskTerminated, Detail: "call cancelled " + doing}
}

func detail(s string) string { return text(s, maxDetailBytes) }

// text makes s fit for a text column and a log line: valid UTF-8 without NUL.
func text(s string, limit int) string {
	if len(s) <= limit && isPlain(s) {
		return s
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	return truncate(strings.ReplaceAll(s, "\x00", "\uFFFD"), limit)
}
