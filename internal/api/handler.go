package api

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"errors"
)

// call is a request of a known caller.
type call struct {
	*http.Request
	caller
	w http.ResponseWriter
}

// json serves a handler whose result is the JSON of a 200.
func (s *Server) json(handle func(*call) (any, error)) http.Handler {
	return s.stream(func(c *call) error {
		c.Body = http.MaxBytesReader(c.w, c.Body, maxJSONBytes)
		result, err := handle(c)
		if err != nil {
			return err
		}
		s.writeJSON(c.w, http.StatusOK, result)
		return nil
	})
}

// stream serves a handler that writes its response itself, and returns an
// error only if it has written nothing.
func (s *Server) stream(handle func(*call) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.who(r)
		if err == nil {
			err = handle(&call{Request: r, caller: who, w: w})
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// maxJSONBytes is far above the largest metadata.
const maxJSONBytes = 1 << 20

// decode reads the request's body, a JSON object without unknown members.
func (c *call) decode(into any) error {
	if media, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type")); media != "application/json" {
		return unsupportedMedia("application/json")
	}
	raw, err := io.ReadAll(c.Body)
	if err != nil {
		return readError(err)
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	err = jsonv2.Unmarshal(raw, into, jsonv2.RejectUnknownMembers(true))
	var semantic *jsonv2.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &semantic) && errors.Is(err, jsonv2.ErrUnknownName):
		name := pointed(semantic.JSONPointer)
		return invalid(name, "unknown_parameter", "Unknown parameter: %s.", shown(name))
	case errors.As(err, &semantic):
		name := pointed(semantic.JSONPointer)
		return invalid(name, "invalid_type", "Invalid type for %s: got %s.", shown(name), kindName(semantic.JSONKind))
	}
	return invalid("", "invalid_json", "The body could not be parsed as JSON.")
}

// readError tells a client that is gone from one that sent too much.
func readError(err error) error {
	var size *http.MaxBytesError
	if errors.As(err, &size) {
		return err
	}
	return errGone
}

func pointed(p jsontext.Pointer) string {
	name := ""
	for token := range p.Tokens() {
		if name != "" {
			name += "."
		}
		name += token
	}
	return name
}

func kindName(k jsontext.Kind) string {
	switch k {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	}
	return "something else"
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
	_, _ = w.Write(body.Bytes()) // nobody is left to be told
}

// unix is a time as OpenAI has it, in seconds; nil for the zero time.
func unix(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	seconds := t.Unix()
	return &seconds
}
