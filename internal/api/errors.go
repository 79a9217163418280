package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

// apiError is an error that a client is told as it is.
type apiError struct {
	status     int
	kind       string // of the error, as OpenAI names it
	message    string
	param      string // the parameter that is wrong; empty: none
	code       string // for programs; empty: none
	retryAfter time.Duration
}

func (e *apiError) Error() string { return e.message }

const (
	invalidRequest = "invalid_request_error"
	rateLimit      = "rate_limit_error"
	serverError    = "server_error"
)

// The codes of errors that are made in more than one place.
const (
	codeMissing  = "missing_parameter"
	codeInvalid  = "invalid_value"
	codeNotFound = "not_found"
	codeConflict = "conflict"
)

// refusals say how the errors of the domain are answered. This is the only
// place that maps them; the test holds the table to the errors that there are.
// An empty message is the error's own text.
var refusals = []struct {
	err     error
	status  int
	code    string
	message string
}{
	{batch.ErrNotFound, http.StatusNotFound, codeNotFound, "Resource not found."},
	{batch.ErrInvalidID, http.StatusNotFound, codeNotFound, "Resource not found."},
	{batch.ErrBatchFinished, http.StatusConflict, "batch_ended", ""},
	{batch.ErrNotRerunnable, http.StatusConflict, "not_retriable", "Only requests that failed, expired or were canceled can be rerun."},
	{batch.ErrRerunSuperseded, http.StatusConflict, "not_retriable", "The batch was cancelled or rerun while this rerun began. Retrieve the batch to see its state."},
	{batch.ErrRerunLimit, http.StatusConflict, "not_retriable", "The batch was cancelled and rerun so often that its output has no places left. Create a new batch of its file."},
	{batch.ErrBudgetSpent, http.StatusConflict, string(batch.BudgetExceeded), "The budget of the batch is spent. Give it a larger one, by PATCH of the batch or `fusillade batches set`, then rerun what was canceled."},
	{batch.ErrBatchCancelling, http.StatusConflict, "not_retriable", "The batch is being cancelled. Rerun it when its status is cancelled."},
	{batch.ErrFileDeleted, http.StatusConflict, "not_retriable", "The input file of the batch was deleted, and its requests with it. Upload the file again and create a new batch."},
	{batch.ErrKeyGone, http.StatusConflict, "not_retriable", "The API key of the batch was removed when the batch finished. Rerun it with " + headerUpstreamKey + "."},
	{batch.ErrOtherEndpoint, http.StatusConflict, "not_retriable", "The batch is a job of another endpoint than this server has. Rerun it with that endpoint, by fusillade run."},
	{batch.ErrFileState, http.StatusConflict, "upload_ended", "The upload took too long and was given up. Upload the file again."},
	{batch.ErrUploadState, http.StatusConflict, "upload_ended", ""},
	{batch.ErrUploadOverfull, http.StatusConflict, "upload_ended", "The upload has received more than twice the bytes that it was created with. Cancel it and create another."},
	{batch.ErrTooMany, http.StatusTooManyRequests, "too_many_uploads", ""}, // uploads are all that a caller can have too many of
	{control.ErrNotGranted, http.StatusForbidden, "not_granted", "The database role of this server may not set endpoints of models. Do it with fusillade models set where FUSILLADE_DATABASE_URL is set, or have deploy/postgres/dashboard.sql run once."},
	{batch.ErrNoEscalation, http.StatusConflict, "no_escalation", "The model has no escalation of its own: escalates_to is needed too."},
}

// invalid is a 400 about one parameter.
func invalid(param, code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: invalidRequest, param: param, code: code, message: fmt.Sprintf(format, args...)}
}

// notFound is the answer for what is not there, and for what is not the
// caller's: the two cannot be told apart.
func notFound(kind, id string) *apiError {
	return &apiError{status: http.StatusNotFound, kind: invalidRequest, param: "id", code: codeNotFound,
		message: fmt.Sprintf("No such %s: %s", kind, quote(id))}
}

func conflict(code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusConflict, kind: invalidRequest, code: code, message: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) *apiError {
	return &apiError{status: http.StatusRequestEntityTooLarge, kind: invalidRequest, code: "too_large", message: fmt.Sprintf(format, args...)}
}

func unsupportedMedia(want string) *apiError {
	return &apiError{status: http.StatusUnsupportedMediaType, kind: invalidRequest, code: "unsupported_media_type",
		message: "The Content-Type must be " + want + "."}
}

func unauthorized(message string) *apiError {
	return &apiError{status: http.StatusUnauthorized, kind: invalidRequest, code: "invalid_api_key", message: message}
}

func forbidden(message string) *apiError {
	return &apiError{status: http.StatusForbidden, kind: invalidRequest, code: "forbidden", message: message}
}

// ErrOperatorsOnly refuses everybody but operators.
var ErrOperatorsOnly = &apiError{status: http.StatusForbidden, kind: invalidRequest, code: "operators_only",
	message: "Only operators may do that. Their keys are made by fusillade keys create --admin."}

// maxQuoted bounds how much of a client's own text an error repeats.
const maxQuoted = 100

// quote makes a client's text fit to be repeated in a message.
func quote(text string) string { return fmt.Sprintf("%q", shorten(text)) }

// shorten bounds a client's text.
func shorten(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if runes := []rune(text); len(runes) > maxQuoted {
		text = string(runes[:maxQuoted]) + "…"
	}
	return text
}

// errGone is returned when the client has left or is too slow: nobody reads an
// answer.
var errGone = errors.New("the client is gone")

// translate makes an answer of an error. The second result is false for errors
// that are ours.
func (s *Server) translate(err error) (*apiError, bool) {
	var known *apiError
	var file *jsonl.InvalidFileError
	var allowance *batch.AllowanceError
	var models *batch.ModelLimitError
	var prices *batch.UnpricedError
	var change *control.InvalidChangeError
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known, true
	case errors.As(err, &file):
		return invalidFile(file), true
	case errors.As(err, &allowance):
		return s.overAllowance(allowance), true
	case errors.As(err, &models):
		return overModels(models), true
	case errors.As(err, &prices):
		return unpriced(prices), true
	case errors.As(err, &change):
		return invalid(change.Field, codeInvalid, "%s.", change), true
	case errors.As(err, &size):
		return tooLarge("The request is larger than %d bytes.", size.Limit), true
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return s.refusal(err, r.err, r.status, r.code, r.message), true
		}
	}
	switch {
	case errors.Is(err, control.ErrBrokerUnavailable):
		return unavailable(s.cfg.RetryAfter, "The server cannot reach NATS, its broker, just now."), false
	case postgres.Transient(err):
		return unavailable(s.cfg.RetryAfter, "The server cannot reach Postgres, its database, just now."), false
	}
	return &apiError{status: http.StatusInternalServerError, kind: serverError, code: "internal_error",
		message: "The server had an error while processing your request. Please try again."}, false
}

func unavailable(retryAfter time.Duration, what string) *apiError {
	return &apiError{status: http.StatusServiceUnavailable, kind: serverError, code: "unavailable", retryAfter: retryAfter,
		message: what + " Batches go on by themselves when it is back. Please try again; if it lasts, its operators have to start it."}
}

// Unavailable answers everything but whether it is alive with 503, for a process whose database or broker
// is yet to come.
func Unavailable(retryAfter time.Duration) http.Handler {
	s := &Server{cfg: Config{ClientTimeout: idleTimeout}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close") // the next request may find the API
		switch r.URL.Path {
		case "/livez", "/healthz":
			s.alive(w, r)
			return
		case "/readyz":
			s.health(w, http.StatusServiceUnavailable, "not ready")
			return
		}
		s.refuse(w, unavailable(retryAfter, "The server starts, and cannot reach its database or its broker yet."))
	})
}

func (s *Server) refusal(err, sentinel error, status int, code, message string) *apiError {
	answer := &apiError{status: status, kind: invalidRequest, code: code, message: message}
	if message == "" {
		answer.message = sentence(err, sentinel)
	}
	if status == http.StatusTooManyRequests {
		answer.kind, answer.retryAfter = rateLimit, s.cfg.RetryAfter
	}
	return answer
}

// sentence is the domain's own text of a refusal, with the state if it is known,
// and without what was wrapped around it.
func sentence(err, sentinel error) string {
	text := sentinel.Error()
	var finished *batch.BatchFinishedError
	var upload *batch.UploadStateError
	var tooMany *batch.TooManyError
	switch {
	case errors.As(err, &finished):
		text = "the batch is already " + ShownStatus(postgres.Batch{Status: finished.Status})
	case errors.As(err, &upload):
		text = upload.Error()
	case errors.As(err, &tooMany):
		text = tooMany.Error()
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// invalidFile lists every bad line that the error lists.
func invalidFile(e *jsonl.InvalidFileError) *apiError {
	out := invalid("file", e.Lines[0].Code, "The file was refused, and nothing of it was kept.")
	var list strings.Builder
	list.WriteString(out.message)
	for _, line := range e.Lines {
		fmt.Fprintf(&list, "\n%s", line.Message)
		if line.Code == jsonl.CodeFileTooLarge {
			out.status, out.code = http.StatusRequestEntityTooLarge, line.Code
		}
	}
	if more := e.More(); more > 0 {
		fmt.Fprintf(&list, "\nand %d more", more)
	}
	out.message = list.String()
	return out
}

func (s *Server) overAllowance(e *batch.AllowanceError) *apiError {
	if e.Never() {
		return invalid("input_file_id", "over_allowance", "The batch is larger than is allowed: %s.", e)
	}
	return &apiError{status: http.StatusTooManyRequests, kind: rateLimit, code: "over_allowance",
		message: "Too much is in progress: " + e.Error() + ".", retryAfter: s.cfg.RetryAfter}
}

func overModels(e *batch.ModelLimitError) *apiError {
	out := invalid("file", "too_many_models", "The file was refused, and nothing of it was kept: %s. Delete files whose models are not used any more.", e)
	if e.Total {
		out.message = fmt.Sprintf("The file was refused, and nothing of it was kept: %s. The server's operators can raise FUSILLADE_MAX_MODELS.", e)
	}
	return out
}

// fail is where errors become responses, and the only place.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errGone) || (r.Context().Err() != nil && errors.Is(err, context.Canceled)) {
		// Without an answer the connection is of no use: this closes it.
		panic(http.ErrAbortHandler)
	}
	answer, theirs := s.translate(err)
	if !theirs {
		s.logFailure(w, r, answer, err)
	}
	if answer.status == http.StatusRequestEntityTooLarge {
		s.drain(w, r)
	}
	s.refuse(w, answer)
}

// logFailure logs what is our fault. While Postgres or NATS is away everything fails,
// so that is counted.
func (s *Server) logFailure(w http.ResponseWriter, r *http.Request, answer *apiError, err error) {
	id := w.Header().Get(headerRequestID)
	if answer.status == http.StatusServiceUnavailable {
		s.often.Add(slog.LevelError, "request failed: Postgres or NATS is away", nil, "request_id", id, "method", r.Method, "route", r.Pattern, "err", err)
		return
	}
	s.cfg.Log.Error("request failed", "request_id", id, "method", r.Method, "route", r.Pattern, "err", err)
}

func (s *Server) refuse(w http.ResponseWriter, answer *apiError) {
	h := w.Header()
	if answer.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(answer.retryAfter.Seconds()))))
	}
	if answer.status == http.StatusConflict || answer.status == http.StatusRequestTimeout {
		h.Set("X-Should-Retry", "false") // the SDKs would: trying again changes nothing
	}
	if answer.code == codeUnsupportedEncoding {
		h.Set("Accept-Encoding", "gzip")
	}
	if answer.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	s.writeJSON(w, answer.status, errorBody{Error: errorObject{
		Message: answer.message, Type: answer.kind, Param: optional(answer.param), Code: optional(answer.code),
	}})
}

type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
