package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Error is what a server says when it refuses something.
type Error struct {
	Status  int // of HTTP
	Message string
	Type    string
	Param   string // the parameter that is wrong; empty: none
	Code    string // for programs; empty: none
	// RequestID names the request in the server's log; empty: it said none.
	RequestID string
}

// Error is the server's message; for what is the server's fault, with the id
// that its log has.
func (e *Error) Error() string {
	if e.Status >= 500 && e.RequestID != "" {
		return fmt.Sprintf("%s (%d, request %s)", e.Message, e.Status, e.RequestID)
	}
	return e.Message
}

// temporary reports whether the same request may succeed later.
func (e *Error) temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout || e.Status >= 500
}

// Refused reports whether the server said no, and will again.
func Refused(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.temporary()
}

// HasStatus reports whether the server answered with this status.
func HasStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

const maxError = 1 << 20

// readError makes an error of an answer that is none of success.
func readError(resp *response, server string) error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	var body struct {
		Error struct {
			Message string
			Type    string
			Param   *string
			Code    *string
		}
	}
	raw, _ := io.ReadAll(io.LimitReader(resp, maxError)) // what there is of it
	if json.Unmarshal(raw, &body) == nil {
		e.Message, e.Type = body.Error.Message, body.Error.Type
		if p := body.Error.Param; p != nil {
			e.Param = *p
		}
		if c := body.Error.Code; c != nil {
			e.Code = *c
		}
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the server answered with status %d %s", e.Status, http.StatusText(e.Status))
		if e.Status < 500 {
			e.Message += fmt.Sprintf(" and no reason: is %s a fusillade server?", server)
		}
	}
	return e
}
