package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// call is an HTTP request of a known caller, and where it is answered.
type call struct {
	*http.Request
	caller
	w http.ResponseWriter
}

// endpoint answers a call. It returns an error only if it has written nothing.
type endpoint func(*call) error

// params is what a handler is asked: a type that reads itself from an HTTP
// request, and whose fields are valid then.
type params[T any] interface {
	*T
	read(*input)
}

// none are the params of a handler that is asked nothing but its route.
type none struct{}

func (*none) read(in *input) { in.noQuery() }

// maxJSONBytes is far above the largest body of JSON.
const maxJSONBytes = 1 << 20

// handle makes an endpoint of a handler whose answer is the JSON of a 200. The
// handler is called once its caller is known and its params are valid. That a
// thing in the path does not exist it may leave to the wrapper to say: an
// ErrNotFound is answered with the kind and id of the path.
func handle[Req, Resp any, P params[Req]](s *Server, serve func(context.Context, caller, Req) (Resp, error)) endpoint {
	return stream[Req, P](func(c *call, req Req) error {
		resp, err := serve(c.Context(), c.caller, req)
		if err != nil {
			return err
		}
		s.writeJSON(c.w, http.StatusOK, resp)
		return nil
	})
}

// stream makes an endpoint of a handler that writes its answer itself, and
// returns an error only if it has written nothing.
func stream[Req any, P params[Req]](serve func(*call, Req) error) endpoint {
	return func(c *call) error {
		var req Req
		in := newInput(c)
		P(&req).read(in)
		err := in.done()
		if err == nil {
			err = serve(c, req)
		}
		return in.resource.name(err)
	}
}

// operators makes an endpoint refuse everybody but operators.
func operators(serve endpoint) endpoint {
	return func(c *call) error {
		if !c.admin {
			return ErrOperatorsOnly
		}
		return serve(c)
	}
}

// everybodys makes an endpoint of operators change batches of every owner.
func everybodys(serve endpoint) endpoint {
	return operators(func(c *call) error {
		c.everybody = true
		return serve(c)
	})
}

// authenticated serves an endpoint to callers with a valid key, and answers its
// errors.
func (s *Server) authenticated(serve endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.authenticate(r)
		if err == nil {
			err = serve(&call{Request: r, caller: who, w: w})
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// writeJSON sends a whole response. A client that does not take it in time is
// cut off.
func (s *Server) writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our own types can be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.ClientTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone: there is nobody left to tell
}

// unix is a time as OpenAI has it, in seconds; nil for the zero time.
func unix(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}
