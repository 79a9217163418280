package api

import (
	"bytes"
	"cmp"
	"net/http"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

const (
	defaultListedResults = 100
	maxListedResults     = 10_000
)

// resultObject is a request with its result.
type resultObject struct {
	ID       string         `json:"id"`
	Object   string         `json:"object"`
	Line     int32          `json:"line"`
	CustomID string         `json:"custom_id"`
	Status   batch.State    `json:"status"`
	Model    batch.Model    `json:"model"`
	Attempts int            `json:"attempts"`
	Request  jsontext.Value `json:"request"`
	Response jsontext.Value `json:"response"`
	Error    jsontext.Value `json:"error"`
	// LastError is how its last call failed, of a request that goes on.
	LastError *lastErrorObject `json:"last_error"`
}

type lastErrorObject struct {
	Code       string `json:"code"`
	StatusCode *int   `json:"status_code"` // null: there was no answer
	Message    string `json:"message"`
}

// asLastError is nil if nothing failed.
func asLastError(reason batch.Reason, status int, cause string) *lastErrorObject {
	if reason == "" {
		return nil
	}
	o := &lastErrorObject{Code: string(reason), Message: cmp.Or(cause, reason.Attempt(status))}
	if status != 0 {
		o.StatusCode = &status
	}
	return o
}

var null = jsontext.Value("null")

// resultListParams ask for requests of a batch, in the order of the file.
type resultListParams struct {
	batchParams
	after    int32 // line
	limit    int
	state    batch.State // empty: any
	customID string      // empty: any
}

func (p *resultListParams) read(in *input) {
	p.batchParams.read(in)
	if after, given := in.text("after", maxIDBytes); given {
		id, err := batch.ParseRequestID(after)
		if err != nil || id.Batch != p.id || id.String() != after {
			in.fail(invalid("after", codeInvalid, "after must be the id of a request of this batch."))
		}
		p.after = id.Line
	}
	p.limit = int(in.number("limit", defaultListedResults, 1, maxListedResults))
	p.state = batch.State(in.oneOf("status", "", string(batch.Pending), string(batch.Claimed), string(batch.Processing),
		string(batch.Completed), string(batch.Failed), string(batch.Canceled), string(batch.Expired)))
	p.customID, _ = in.text("custom_id", maxCustomIDBytes)
}

// batchResults sends a list of requests, each with its result. It is written
// page by page, for bodies may be large.
func (s *Server) batchResults(c *call, p resultListParams) error {
	b, err := s.cfg.Store.GetBatch(c.Context(), p.id, &c.owner)
	if err != nil {
		return err
	}
	leave, err := s.downloads.enter(c.Context(), c.owner)
	if err != nil {
		return err
	}
	defer leave()
	return s.sendResults(c, postgres.RequestQuery{Batch: b.ID, File: b.File, State: p.state, CustomID: p.customID, After: p.after}, p.limit)
}

func (s *Server) sendResults(c *call, q postgres.RequestQuery, limit int) error {
	var first, last string
	sent, more := 0, false
	w := s.pacedWriter(c.w)
	for begun := false; ; begun = true {
		q.Limit = limit + 1 - sent // one more, to know whether there is one
		results, next, err := s.cfg.Store.ListRequests(c.Context(), q)
		if err != nil && !begun {
			return err
		}
		var out bytes.Buffer
		if !begun {
			c.w.Header().Set("Content-Type", "application/json")
			out.WriteString(`{"object":"list","data":[`)
		}
		for _, o := range results {
			if more = sent == limit; more {
				break
			}
			if sent++; sent > 1 {
				out.WriteByte(',')
			}
			object := asResult(o)
			if last = object.ID; first == "" {
				first = last
			}
			if err == nil {
				err = jsonv2.MarshalWrite(&out, object, laxJSON)
			}
		}
		q.After = next
		ended := more || next == 0
		if ended {
			out.WriteString(`],`)
			if err == nil {
				err = writeTail(&out, first, last, more)
			}
		}
		if err == nil {
			_, err = w.Write(out.Bytes())
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if ended {
			return nil
		}
	}
}

// writeTail writes the members of the list that follow its data.
func writeTail(out *bytes.Buffer, first, last string, more bool) error {
	tail, err := jsonv2.Marshal(struct {
		FirstID *string `json:"first_id"`
		LastID  *string `json:"last_id"`
		HasMore bool    `json:"has_more"`
	}{optional(first), optional(last), more})
	out.Write(bytes.TrimPrefix(tail, []byte("{")))
	return err
}

func asResult(o postgres.RequestResult) resultObject {
	out := resultObject{
		ID: o.Result.ID.String(), Object: "batch.request", Line: o.Line, CustomID: o.CustomID, Status: o.Result.State,
		Model: o.Model, Attempts: o.Result.Attempts, Response: null, Error: null,
	}
	body := jsontext.Value(o.Body)
	if len(body) == 0 { // its file was deleted
		body = null
	}
	out.Request, _ = jsonv2.Marshal(struct { // it was valid JSON when it was stored
		Method string         `json:"method"`
		URL    string         `json:"url"`
		Body   jsontext.Value `json:"body"`
	}{o.Method, o.Path, body})
	if !o.Result.State.Terminal() {
		out.LastError = asLastError(o.Result.Reason, o.Result.StatusCode, o.Result.Cause)
		return out
	}
	line := jsonl.AppendErrorLine
	if o.Result.State == batch.Completed {
		line = jsonl.AppendOutputLine
	}
	var parts struct {
		Response jsontext.Value `json:"response"`
		Error    jsontext.Value `json:"error"`
	}
	_ = jsonv2.Unmarshal(line(nil, o.Result), &parts, laxJSON) // it is our own
	out.Response, out.Error = parts.Response, parts.Error
	return out
}

// laxJSON is for upstreams' bodies: they are passed on, not judged.
var laxJSON = jsonv2.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
