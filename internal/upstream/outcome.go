package upstream

import (
	"bytes"
	"cmp"
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
	// Cause says it to the owner of the request: what the endpoint says itself, which
	// may be a part of its answer, or what broke the connection. It names no host,
	// and is not to be logged.
	Cause string
	// RetryAfter is how long the upstream asked to wait, at most
	// MaxRetryAfter; zero if it did not ask or the request completed.
	RetryAfter time.Duration
	// Exhausted is for how long nothing remains of the endpoint's own rate limit, as
	// its headers say, after an answer of any kind; at most MaxRetryAfter.
	Exhausted time.Duration
	// Refusal is set if the calls that follow will end likewise until a person
	// does something.
	Refusal *Refusal
	Elapsed time.Duration
	// FirstToken is the part of Elapsed until the first part of a streamed answer
	// came; 0: there was none.
	FirstToken time.Duration
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

// received is a response that was read to its end.
type received struct {
	body       []byte
	problem    error  // of the body, for which isBodyProblem holds; nil: none
	redirected string // where the request is sent by the response, and does not go; empty: nowhere
}

// isBodyProblem holds for errors that say something of the body, not of the
// connection.
func isBodyProblem(err error) bool {
	var unknown unknownEncoding
	return errors.Is(err, errTooLarge) || errors.Is(err, errCorrupt) || errors.Is(err, errBadEvent) || errors.As(err, &unknown)
}

func (c *Client) classify(request *Request, resp *http.Response, got received) Outcome {
	got.body = withoutKey(inUTF8(resp.Header.Get("Content-Type"), got.body), request)
	response := Response{
		StatusCode: resp.StatusCode,
		Body:       got.body,
		RequestID:  text(resp.Header.Get("X-Request-Id"), maxNameBytes),
	}
	m := readMembers(got.body)
	response.Model, response.Usage = readUsage(&m)
	outcome := Outcome{Response: response, Exhausted: rateReset(resp.Header, time.Now())}
	v := c.classifyResponse(request, resp, response, got, &m)
	if v.reason == "" {
		return outcome
	}
	if v.reason == batch.NetworkError {
		outcome.Response = Response{} // it was not received to the end
	}
	outcome.Reason = v.reason
	outcome.RetryAfter = retryAfter(resp.Header, time.Now())
	message, codes := readError(got.body, resp.StatusCode >= http.StatusBadRequest)
	status := resp.StatusCode
	if v.reason == batch.NonRetriableErrorBody {
		status = cmp.Or(refusedStatus(&m), status)
	}
	outcome.Refusal, outcome.Cause = refusalOf(status, v.reason, message, codes), message
	outcome.Detail = fmt.Sprintf("upstream answered with status %d", resp.StatusCode)
	if errors.Is(got.problem, errTooLarge) {
		v.detail = fmt.Sprintf("a body of more than %d bytes, which was dropped", c.cfg.MaxResponseBytes)
	}
	if v.detail != "" {
		outcome.Detail = detail(outcome.Detail + " and " + v.detail)
	}
	if outcome.Cause == "" && v.reason != batch.Redirected {
		outcome.Cause = detail(v.detail)
	}
	return outcome
}

// minKeyBytes is how long a key is that is looked for in answers: a shorter one is no
// secret, and may be a word of the answer.
const minKeyBytes = 12

// withoutKey returns a body in which the server's key does not stand: some endpoints
// quote the key that they refuse, and the owner of a batch is not to know it.
func withoutKey(body []byte, r *Request) []byte {
	if r.OwnKey || len(r.APIKey) < minKeyBytes || !bytes.Contains(body, []byte(r.APIKey)) {
		return body
	}
	return bytes.ReplaceAll(body, []byte(r.APIKey), []byte("***"))
}

// classifyResponse tells what a response is.
func (c *Client) classifyResponse(request *Request, resp *http.Response, response Response, got received, m *members) verdict {
	var unknown unknownEncoding
	status := resp.StatusCode
	retried := c.cfg.ShouldRetry(response)
	if retry, known := shouldRetry(resp.Header); known && status >= http.StatusBadRequest {
		retried = retry
	}
	switch {
	case retried || status >= http.StatusBadRequest:
		message, codes := readError(got.body, false)
		if reason := fatalReason(message, codes); reason != "" {
			return verdict{reason: reason}
		}
		switch {
		case !retried:
			return verdict{reason: batch.NonRetriableHTTPStatus}
		case status == http.StatusNotFound:
			return verdict{reason: batch.NotFound}
		case status == http.StatusNotImplemented:
			return verdict{reason: batch.NotImplemented}
		}
		return verdict{reason: batch.RetriableHTTPStatus}
	case got.redirected != "":
		return verdict{batch.Redirected, "a redirect " + got.redirected}
	case errors.Is(got.problem, errTooLarge):
		return verdict{reason: batch.NonRetriableHTTPStatus}
	case errors.As(got.problem, &unknown):
		return verdict{batch.UnknownEncoding, "a body of which " + unknown.Error()}
	case errors.Is(got.problem, errBadEvent):
		return verdict{batch.MalformedAnswer, "an event stream of which an event is not JSON"}
	case got.problem != nil:
		return verdict{batch.MalformedAnswer, "a body that is not in the encoding that it says"}
	}
	return checkAnswer(request, resp, got.body, m, c.retriesStatus)
}

// retriesStatus reports whether an error of a status is worth another attempt.
func (c *Client) retriesStatus(status int) bool {
	return c.cfg.ShouldRetry(Response{StatusCode: status})
}

// broken classifies a call that got no complete answer. ctx is the call's own.
func (c *Client) broken(ctx context.Context, doing string, err error, out *Outcome) {
	switch cause := context.Cause(ctx); {
	case cause == nil && isLocal(err):
		*out = Outcome{Reason: batch.LocalError, Detail: detail(doing + ": " + diagnose(err).text)}
	case cause == nil:
		why := diagnose(err)
		*out = Outcome{Reason: batch.NetworkError, Detail: detail(doing + ": " + why.text), Cause: why.cause}
		if why.refusal != "" {
			out.Refusal = &Refusal{Kind: why.refusal, Cause: detail(why.text)}
		}
	case errors.Is(cause, errTimeout):
		*out = Outcome{Reason: batch.Timeout, Detail: fmt.Sprintf("timed out after %v %s", c.cfg.Timeout, doing)}
	case errors.Is(cause, errStreamTimeout):
		*out = Outcome{Reason: batch.Timeout, Detail: fmt.Sprintf("timed out after %v in the middle of a streamed answer", c.cfg.StreamTimeout)}
	case errors.Is(cause, errNoFirstToken):
		*out = Outcome{Reason: batch.Timeout, Detail: fmt.Sprintf("timed out: no part of a streamed answer within %v", c.cfg.FirstTokenTimeout)}
	case errors.Is(cause, errStalled):
		*out = Outcome{Reason: batch.Timeout, Detail: fmt.Sprintf("timed out: a streamed answer stopped coming for %v", c.cfg.StallTimeout)}
	default:
		*out = Outcome{Reason: batch.TaskTerminated, Detail: "call cancelled " + doing}
	}
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
