package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"fusillade/internal/postgres"
)

// Caller is who a request acts for.
type Caller struct {
	Owner string
	Admin bool // an operator
	// Keyless: no API key is asked for, so there is nobody to sign in.
	Keyless bool
	Key     string // id of the API key; empty: there is none
}

// Caller finds out who a request acts for, by its API key or session. Failure
// tells what its error says to people.
func (s *Server) Caller(r *http.Request) (Caller, error) {
	who, err := s.authenticate(r)
	return s.public(who), err
}

func (s *Server) public(who caller) Caller {
	return Caller{Owner: who.owner, Admin: who.admin, Keyless: s.cfg.Owner != "", Key: who.key}
}

// Handle has the server answer a pattern of http.ServeMux with a handler of another
// package, which asks Caller who it answers. It must not be called once Run was.
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// Background has something run beside the server, until Run ends. It must not be
// called once Run was.
func (s *Server) Background(f func(context.Context)) { s.background = append(s.background, f) }

// HeldUp says what holds a batch up, as its x_status does, and what to do about it;
// both are empty if nothing does.
func (s *Server) HeldUp(ctx context.Context, b postgres.Batch) (message, action string) {
	o := s.waiting(ctx, b)
	if o == nil {
		return "", ""
	}
	if o.Action != nil {
		action = *o.Action
	}
	return o.Message + o.place(), action
}

// Watch takes a place among the streams of events for an owner, which leave frees,
// and returns a context that ends when such streams are to end.
func (s *Server) Watch(r *http.Request, owner string) (ctx context.Context, leave func(), err error) {
	free, err := s.watchers.enter(r.Context(), owner)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.streams, cancel)
	return ctx, func() { stop(); cancel(); free() }, nil
}

// Failure is what a client is told of an error, and with which status.
func (s *Server) Failure(err error) (status int, message string) {
	answer, _ := s.translate(err)
	return answer.status, answer.message
}

// Invalid is an error of what a form says.
func Invalid(message string) error { return invalid("", codeInvalid, "%s", message) }

// SameOrigin returns an error for what a page of another site has a browser send.
func (s *Server) SameOrigin(r *http.Request) error {
	if err := crossOrigin.Check(r); err != nil {
		return errOtherOrigin
	}
	return nil
}

// Do answers a request of a route of the API on behalf of who sent r, as if they
// had sent it. body is sent as JSON; nil: there is none. The error is of an answer
// that is not a success, and Failure knows it.
func (s *Server) Do(r *http.Request, method, path string, body any) ([]byte, error) {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	inner, err := http.NewRequestWithContext(r.Context(), method, path, bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"Cookie", "Authorization", "Api-Key", "Origin", "Sec-Fetch-Site"} {
		inner.Header[name] = r.Header[name]
	}
	if body != nil {
		inner.Header.Set("Content-Type", "application/json")
	}
	inner.Host, inner.RemoteAddr = r.Host, r.RemoteAddr
	answer := &answer{header: make(http.Header), status: http.StatusOK}
	s.mux.ServeHTTP(answer, inner)
	if answer.status < 300 {
		return answer.body.Bytes(), nil
	}
	var told errorBody
	if json.Unmarshal(answer.body.Bytes(), &told) != nil || told.Error.Message == "" {
		told.Error.Message = strings.TrimSpace(answer.body.String())
	}
	return nil, &apiError{status: answer.status, kind: told.Error.Type, message: told.Error.Message}
}

// answer is a response that is kept.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }
