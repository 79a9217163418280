package api_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"fusillade/internal/api"
)

// Everything that the document lets a client send has bounds there, and the
// server refuses what is beyond them and names it.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Owner = "local" })
	tried := 0
	for o := range s.operations(t) {
		for _, p := range o.op.Parameters {
			for _, bad := range o.beyond(p.Value.Name, p.Value.Schema.Value, false) {
				tried++
				o.refusesParameter(p.Value, fmt.Sprint(bad))
			}
		}
		for name, member := range o.members() {
			for _, bad := range o.beyond(name, member.Value, true) {
				tried++
				o.refusesMember(name, bad)
			}
		}
		if o.takesJSON() {
			o.refusesMember("colour", "red")
		}
	}
	if tried < 100 {
		t.Errorf("%d values were tried; where are the others?", tried)
	}
	if n := s.count(`SELECT (SELECT count(*) FROM batches) + (SELECT count(*) FROM uploads) + (SELECT count(*) FROM models)`); n > 0 {
		t.Error("something was changed")
	}
}

// operation is one of the document's, to be called with one thing wrong.
type operation struct {
	t            *testing.T
	c            *client
	method, path string
	op           *openapi3.Operation
}

// operations are all that the document of a service has.
func (s *service) operations(t *testing.T) iter.Seq[operation] {
	t.Helper()
	c := &client{service: &service{System: s.System, url: strings.TrimSuffix(s.url, "/v1")}}
	doc, err := openapi3.NewLoader().LoadFromData(c.get("/openapi.json").want(t, http.StatusOK).body)
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(operation) bool) {
		for path, item := range doc.Paths.Map() {
			for method, op := range item.Operations() {
				if !yield(operation{t: t, c: c, method: method, path: path, op: op}) {
					return
				}
			}
		}
	}
}

func (o operation) takesJSON() bool {
	return o.op.RequestBody != nil && o.op.RequestBody.Value.Content["application/json"] != nil
}

// members are those of the JSON that the operation takes, if it takes any.
func (o operation) members() openapi3.Schemas {
	if !o.takesJSON() {
		return nil
	}
	return o.op.RequestBody.Value.Content["application/json"].Schema.Value.Properties
}

// beyond are values that the schema forbids. It reports what has no bounds.
func (o operation) beyond(name string, schema *openapi3.Schema, inJSON bool) (bad []any) {
	o.t.Helper()
	if len(schema.AllOf) == 1 {
		nullable := schema.Nullable
		bad = o.beyond(name, schema.AllOf[0].Value, inJSON)
		if nullable {
			bad = slices.DeleteFunc(bad, func(v any) bool { return v == nil })
		}
		return bad
	}
	unbounded := func(what string) { o.t.Errorf("%s %s: %s has no %s", o.method, o.path, name, what) }
	if inJSON && !schema.Nullable {
		bad = append(bad, nil)
	}
	switch {
	case len(schema.Enum) > 0:
		bad = append(bad, "nonsense")
		if !inJSON {
			bad = append(bad, "")
		}
	case len(schema.OneOf) > 0:
		for _, one := range schema.OneOf {
			bad = append(bad, o.beyond(name, one.Value, inJSON)...)
		}
		// What one of them forbids may be another's.
		bad = slices.DeleteFunc(bad, func(v any) bool { return accepts(schema, v) })
	case schema.Type.Is("string"):
		if schema.MaxLength == nil {
			unbounded("maxLength")
			break
		}
		bad = append(bad, tooLong(name, int(*schema.MaxLength)))
		if schema.MinLength > 0 {
			bad = append(bad, "")
		}
		if schema.Pattern != "" {
			bad = append(bad, strings.Repeat("é", int(schema.MinLength)/2))
		}
	case schema.Type.Is("integer"):
		if schema.Min == nil || schema.Max == nil {
			unbounded("minimum and maximum")
			break
		}
		bad = append(bad, int64(*schema.Min)-1, int64(*schema.Max)+1, "x")
		if !inJSON {
			bad = append(bad, "")
		}
	case schema.Type.Is("array"):
		if schema.MaxItems == nil {
			unbounded("maxItems")
			break
		}
		for _, item := range o.beyond(name, schema.Items.Value, true) {
			bad = append(bad, []any{item})
		}
		good := any(7)
		if schema.Items.Value.Type.Is("string") {
			good = "failed"
		}
		bad = append(bad, slices.Repeat([]any{good}, int(*schema.MaxItems)+1))
		if schema.MinItems > 0 {
			bad = append(bad, []any{})
		}
	case schema.Type.Is("object"):
		if schema.MaxProps != nil {
			large := make(map[string]any)
			for i := range *schema.MaxProps + 1 {
				large[fmt.Sprint(i)] = "x"
			}
			bad = append(bad, large)
		}
		members := maps.Clone(schema.Properties)
		if extra := schema.AdditionalProperties.Schema; extra != nil {
			for _, v := range o.beyond(name, extra.Value, true) {
				bad = append(bad, map[string]any{"k": v})
			}
		}
		for member, m := range members {
			for _, v := range o.beyond(name+"."+member, m.Value, true) {
				object := map[string]any{"anchor": "created_at", "seconds": 3600}
				object[member] = v
				bad = append(bad, object)
			}
		}
	case schema.Type.Is("boolean"):
		bad = append(bad, "yes")
	default:
		o.t.Errorf("%s %s: %s has a type that this test does not know", o.method, o.path, name)
	}
	return bad
}

// accepts says whether the schema takes the value.
func accepts(schema *openapi3.Schema, v any) bool {
	if n, ok := v.(int64); ok {
		v = float64(n) // as JSON is decoded
	}
	return schema.VisitJSON(v) == nil
}

// tooLong is text with which nothing is wrong but that it is a little longer
// than allowed.
func tooLong(name string, most int) string {
	if name == "completion_window" {
		return "1h" + strings.Repeat("0h", most/2)
	}
	return strings.Repeat("a", most+1)
}

// url is the path with ids that could be there.
func (o operation) url() string {
	digits := strings.Repeat("0", 31) + "1"
	id := map[string]string{"files": "file-" + digits, "uploads": "upload_" + digits, "batches": "batch_" + digits, "models": "m"}
	for kind, value := range id {
		if strings.Contains(o.path, "/"+kind+"/") {
			return strings.ReplaceAll(o.path, "{id}", value)
		}
	}
	return o.path
}

func (o operation) refusesParameter(p *openapi3.Parameter, bad string) {
	o.t.Helper()
	target, headers, want := o.url(), []string(nil), p.Name
	statuses := []int{http.StatusBadRequest}
	switch p.In {
	case "path":
		if bad == "" {
			return // another route
		}
		// What no id can be is not there.
		target, statuses = strings.ReplaceAll(o.path, "{id}", url.PathEscape(bad)), append(statuses, http.StatusNotFound)
		if strings.Contains(o.path, "models") && o.method == http.MethodPatch {
			want = "model"
		}
	case "query":
		target += "?" + o.query(p.Name, bad).Encode()
	case "header":
		headers = []string{p.Name, bad}
	}
	var a answer
	if o.op.RequestBody != nil && o.op.RequestBody.Value.Content["application/json"] != nil {
		a = o.c.post(target, o.body(), headers...)
		if o.method != http.MethodPost {
			raw, _ := json.Marshal(o.body())
			a = o.c.do(o.method, target, "application/json", strings.NewReader(string(raw)), headers...)
		}
	} else {
		a = o.c.do(o.method, target, "", nil, headers...)
	}
	o.check(a, want, bad, statuses...)
}

// query has one parameter, and those that must be there.
func (o operation) query(name, value string) url.Values {
	query := url.Values{name: {value}}
	for _, other := range o.op.Parameters {
		if other.Value.In == "query" && other.Value.Required && other.Value.Name != name {
			query.Set(other.Value.Name, "m")
		}
	}
	return query
}

// body is one that would do, if its objects were there.
func (o operation) body() map[string]any {
	digits := strings.Repeat("0", 31) + "1"
	return map[string]map[string]any{
		"createBatch":    newBatch("file-" + digits),
		"createUpload":   {"filename": "a", "purpose": "batch", "bytes": 1},
		"completeUpload": {"part_ids": []string{"part_" + digits}},
		"changeModel":    {"limit": 1},
		"changeBatch":    {"priority": 1},
		"cancelBatch":    {}, "rerunBatch": {}, "retryBatch": {}, "cancelAnyBatch": {}, "rerunAnyBatch": {},
	}[o.op.OperationID]
}

func (o operation) refusesMember(name string, bad any) {
	o.t.Helper()
	body := o.body()
	if body == nil {
		o.t.Fatalf("%s: this test has no body for it", o.op.OperationID)
	}
	body[name] = bad
	raw, err := json.Marshal(body)
	if err != nil {
		o.t.Fatal(err)
	}
	statuses := []int{http.StatusBadRequest}
	if name == "input_file_id" {
		statuses = append(statuses, http.StatusNotFound)
	}
	if name == "bytes" {
		statuses = append(statuses, http.StatusRequestEntityTooLarge)
	}
	o.check(o.c.do(o.method, o.url(), "application/json", strings.NewReader(string(raw))), name, bad, statuses...)
}

func (o operation) check(a answer, param string, bad any, statuses ...int) {
	o.t.Helper()
	shown := fmt.Sprintf("%.80v", bad)
	if !slices.Contains(statuses, a.status) {
		o.t.Errorf("%s %s: %s = %s: status %d, want one of %v: %s", o.method, o.path, param, shown, a.status, statuses, a.body)
		return
	}
	if got := a.text("error", "param"); a.status == http.StatusBadRequest && got != param && !strings.HasPrefix(got, param+".") {
		o.t.Errorf("%s %s: %s = %s: the error names %q: %s", o.method, o.path, param, shown, got, a.body)
	}
}

// What the document allows at its bounds the server takes: it may say no for another
// reason, but not for this value.
func TestAtTheBounds(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Owner = "local" })
	tried := 0
	for o := range s.operations(t) {
		for _, p := range o.op.Parameters {
			for _, good := range atBounds(p.Value.Schema.Value) {
				if p.Value.In == "query" {
					tried++
					query := o.query(p.Value.Name, fmt.Sprint(good))
					o.takes(p.Value.Name, good, o.c.do(o.method, o.url()+"?"+query.Encode(), "", nil))
				}
			}
		}
		body := o.body()
		for name, member := range o.members() {
			for _, good := range atBounds(member.Value) {
				tried++
				with := maps.Clone(body)
				with[name] = good
				raw, err := json.Marshal(with)
				if err != nil {
					t.Fatal(err)
				}
				o.takes(name, good, o.c.do(o.method, o.url(), "application/json", strings.NewReader(string(raw))))
			}
		}
	}
	if tried < 40 {
		t.Errorf("%d values were tried; where are the others?", tried)
	}
}

// atBounds are the least and the most that a schema allows.
func atBounds(schema *openapi3.Schema) (good []any) {
	switch {
	case len(schema.OneOf) > 0:
		for _, one := range schema.OneOf {
			good = append(good, atBounds(one.Value)...)
		}
	case len(schema.Enum) > 0:
		good = schema.Enum
	case schema.Type.Is("integer"):
		good = append(good, int64(*schema.Min), int64(*schema.Max))
	case schema.Type.Is("string") && schema.Pattern == "" && schema.MaxLength != nil:
		good = append(good, strings.Repeat("a", int(*schema.MaxLength)))
		if schema.MinLength == 0 {
			good = append(good, "")
		}
	}
	return good
}

// takes makes sure that a value at a bound is not refused for its size.
func (o operation) takes(name string, good any, a answer) {
	o.t.Helper()
	message := a.text("error", "message")
	outside := strings.Contains(message, "at most") || strings.Contains(message, " from ") || strings.Contains(message, "must be one of") || strings.Contains(message, "must not be empty")
	if a.status >= http.StatusInternalServerError || a.status == http.StatusBadRequest && a.text("error", "param") == name && outside {
		o.t.Errorf("%s %s: %s = %.80v: status %d: %s", o.method, o.path, name, good, a.status, a.body)
	}
}
