package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
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

const invalidRequest = "invalid_request_error"

// invalid is a 400 about one parameter.
func invalid(param, code, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, kind: invalidRequest, param: param, code: code, message: fmt.Sprintf(format, args...)}
}

// notFound is the answer for what is not there, and for what is not the
// caller's: the two cannot be told apart.
func notFound(kind, id string) *apiError {
	return &apiError{status: http.StatusNotFound, kind: invalidRequest, param: "id", code: "not_found",
		message: fmt.Sprintf("No such %s: %s", kind, shown(id))}
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

// maxShown bounds how much of a client's own text an error repeats.
const maxShown = 100

func shown(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if runes := []rune(text); len(runes) > maxShown {
		text = string(runes[:maxShown]) + "…"
	}
	return fmt.Sprintf("%q", text)
}

// errGone: the client has left or is too slow; nobody reads an answer.
var errGone = errors.New("the client is gone")

// translate makes an answer of an error. The second result is false for errors
// that are ours.
func (s *Server) translate(err error) (*apiError, bool) {
	var known *apiError
	var file *jsonl.InvalidFileError
	var allowance *batch.AllowanceError
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known, true
	case errors.As(err, &file):
		return invalidFile(file), true
	case errors.As(err, &allowance):
		return s.overAllowance(allowance), true
	case errors.As(err, &size):
		return tooLarge("The request is larger than %d bytes.", size.Limit), true
	case errors.Is(err, batch.ErrNotFound), errors.Is(err, batch.ErrInvalidID):
		return &apiError{status: http.StatusNotFound, kind: invalidRequest, code: "not_found", message: "There is no such thing."}, true
	case errors.Is(err, batch.ErrConflict):
		return conflict("conflict", "Its state does not allow that."), true
	}
	return &apiError{status: http.StatusInternalServerError, kind: "server_error", code: "internal_error",
		message: "The server had an error while processing your request. Please try again."}, false
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
	if more := e.Total - len(e.Lines); more > 0 {
		fmt.Fprintf(&list, "\nand %d more", more)
	}
	out.message = list.String()
	return out
}

func (s *Server) overAllowance(e *batch.AllowanceError) *apiError {
	if e.Never() {
		return invalid("input_file_id", "over_allowance", "The batch is larger than is allowed: %s.", e)
	}
	return &apiError{status: http.StatusTooManyRequests, kind: "rate_limit_error", code: "over_allowance",
		message: "Too much is in progress: " + e.Error() + ".", retryAfter: s.cfg.RetryAfter}
}

// fail is where errors become responses, and the only place.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errGone) || (r.Context().Err() != nil && errors.Is(err, context.Canceled)) {
		// Without an answer the connection is of no use: this closes it.
		panic(http.ErrAbortHandler)
	}
	answer, ours := s.translate(err)
	if !ours {
		s.cfg.Log.Error("request", "request_id", w.Header().Get(headerRequestID), "method", r.Method, "route", r.Pattern, "err", err)
	}
	h := w.Header()
	if answer.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(answer.retryAfter.Seconds()))))
	}
	if answer.status == http.StatusConflict {
		h.Set("X-Should-Retry", "false") // the SDKs would: trying again changes nothing
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
