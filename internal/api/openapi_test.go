package api_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"

	"fusillade/internal/api"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
)

// described is the document that a server serves, and what of it was seen.
type described struct {
	t    *testing.T
	doc  *openapi3.T
	seen map[string]bool // operations that were answered with a 200
}

// The document describes the routes that there are and no others, and every
// route's real answers are as it says.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	var patterns []string
	s := newService(t, func(cfg *api.Config) {
		server, err := api.New(*cfg)
		if err != nil {
			t.Fatal(err)
		}
		patterns = server.Patterns()
	})
	s.Work(mock.Settings{Errors: "400=0.4"})
	c := s.client("alice")
	root := strings.TrimSuffix(s.url, "/v1")
	anonymous := &client{service: &service{System: s.System, url: root}}
	answer := anonymous.get("/openapi.json").want(t, http.StatusOK)
	doc, err := openapi3.NewLoader().LoadFromData(answer.body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := &described{t, doc, make(map[string]bool)}
	d.wantRoutes(patterns)
	d.see(http.MethodGet, "/openapi.json", answer)
	for _, path := range []string{"/livez", "/healthz", "/readyz"} {
		d.see(http.MethodGet, path, anonymous.get(path).want(t, http.StatusOK))
	}

	key, err := s.operatorKey()
	if err != nil {
		t.Fatal(err)
	}
	operator := &client{service: &service{System: s.System, url: root}, key: key}

	upload := c.upload(field{"purpose", "", "batch"}, field{"file", "a.jsonl", requests(30, "org/m")})
	d.see(http.MethodPost, "/v1/files", upload)
	file := upload.text("id")
	created := d.send(c, http.MethodPost, "/v1/batches", "/batches", newBatch(file))
	id := created.text("id")
	ended := c.awaitEnd(id)
	d.see(http.MethodGet, "/v1/batches/{id}", ended)
	for pattern, path := range map[string]string{
		"/v1/files": "/files", "/v1/files/{id}": "/files/" + file, "/v1/files/{id}/content": "/files/" + ended.text("error_file_id") + "/content",
		"/v1/batches": "/batches?limit=1", "/v1/batches/{id}/results": "/batches/" + id + "/results", "/v1/batches/{id}/events": "/batches/" + id + "/events",
		"/v1/batches/{id}/errors": "/batches/" + id + "/errors",
		"/v1/models":              "/models", "/v1/models/{id}": "/models/org/m",
	} {
		d.send(c, http.MethodGet, pattern, path, nil)
	}
	d.send(c, http.MethodGet, "/v1/files/{id}", "/files/"+ended.text("output_file_id"), nil)
	d.events(c.get("/batches/" + id + "/events"))
	d.send(c, http.MethodPost, "/v1/batches/{id}/rerun", "/batches/"+id+"/rerun", map[string]any{"statuses": []string{"failed"}})
	c.awaitEnd(id)

	// Parts.
	whole := requests(2, "m")
	begun := d.send(c, http.MethodPost, "/v1/uploads", "/uploads", map[string]any{"filename": "b.jsonl", "purpose": "batch", "bytes": len(whole)})
	uploads := "/uploads/" + begun.text("id")
	part := c.part(begun.text("id"), whole)
	d.see(http.MethodPost, "/v1/uploads/{id}/parts", part)
	d.send(c, http.MethodPost, "/v1/uploads/{id}/complete", uploads+"/complete", map[string]any{"part_ids": []string{part.text("id")}})
	begun = d.send(c, http.MethodPost, "/v1/uploads", "/uploads", map[string]any{"filename": "b.jsonl", "purpose": "batch", "bytes": 1})
	d.send(c, http.MethodPost, "/v1/uploads/{id}/cancel", "/uploads/"+begun.text("id")+"/cancel", nil)

	// What waits: its model is paused.
	model := "paused/model"
	d.send(operator, http.MethodPatch, "/admin/v1/models/{id}", "/admin/v1/models/"+model, map[string]any{"paused": true})
	d.send(operator, http.MethodPatch, "/admin/v1/models/{id}", "/admin/v1/models/"+model, map[string]any{"limit": "auto:4-200"})
	d.send(operator, http.MethodPatch, "/admin/v1/models/{id}", "/admin/v1/models/"+model,
		map[string]any{"limit": 7, "escalates_to": "other", "escalates_before_seconds": 60})
	d.send(operator, http.MethodPatch, "/admin/v1/models/{id}", "/admin/v1/models/"+model, map[string]any{
		"upstream_urls": []string{"http://one.invalid", "http://two.invalid"}, "upstream_auth": "x-api-key", "upstream_path": "/{operation}", "upstream_model": "theirs",
		"upstream_stream": "on", "upstream_send_priority": "default",
	})
	waiting := c.batch(c.file(requests(5, model)))
	if a := d.send(c, http.MethodGet, "/v1/batches/{id}", "/batches/"+waiting, nil); a.value("x_status") == nil {
		t.Errorf("nothing says that the model is paused: %s", a.body)
	}
	d.send(operator, http.MethodDelete, "/admin/v1/holds", "/admin/v1/holds?model="+"paused%2Fmodel", nil)
	d.send(c, http.MethodGet, "/v1/batches/{id}/results", "/batches/"+waiting+"/results", nil)
	d.send(c, http.MethodPost, "/v1/batches/{id}/cancel", "/batches/"+waiting+"/cancel", map[string]any{"lines": []int{2}})
	d.send(c, http.MethodPatch, "/v1/batches/{id}", "/batches/"+waiting, map[string]any{"priority": 5, "budget": map[string]any{"tokens": 1000000, "cost": nil}})
	d.send(c, http.MethodPost, "/v1/batches/{id}/retry", "/batches/"+waiting+"/retry", map[string]any{"lines": []int{2, 3}})
	for _, list := range []string{"models", "daemons", "demand"} {
		a := d.send(operator, http.MethodGet, "/admin/v1/"+list, "/admin/v1/"+list, nil)
		if data, _ := a.value("data").([]any); len(data) == 0 {
			t.Errorf("%s: nothing is listed", list)
		}
	}
	d.send(operator, http.MethodGet, "/admin/v1/demand/{id}", "/admin/v1/demand/paused%2Fmodel", nil)
	d.send(operator, http.MethodPost, "/admin/v1/batches/{id}/cancel", "/admin/v1/batches/"+waiting+"/cancel", nil)
	d.send(operator, http.MethodPost, "/admin/v1/batches/{id}/rerun", "/admin/v1/batches/"+waiting+"/rerun", map[string]any{"statuses": []string{"canceled"}})
	gone := c.batch(c.file(requests(1, model)))
	d.send(operator, http.MethodDelete, "/admin/v1/batches/{id}", "/admin/v1/batches/"+gone, nil)
	d.send(c, http.MethodPost, "/v1/batches/{id}/cancel", "/batches/"+waiting+"/cancel", nil)
	d.send(c, http.MethodDelete, "/v1/batches/{id}", "/batches/"+waiting, nil)
	d.send(c, http.MethodDelete, "/v1/files/{id}", "/files/"+file, nil)

	// Errors.
	d.see(http.MethodGet, "/v1/files/{id}", c.get("/files/"+file).want(t, http.StatusNotFound))
	d.see(http.MethodPost, "/v1/batches", c.post("/batches", map[string]any{}).want(t, http.StatusBadRequest))
	d.see(http.MethodPost, "/v1/batches", c.post("/batches", newBatch(file), upstreamKey, "sk-x").wantError(t, http.StatusBadRequest, "encryption_not_configured"))
	d.see(http.MethodGet, "/v1/models", (&client{service: s}).get("/models").want(t, http.StatusUnauthorized))
	d.wantAllSeen()
}

// operatorKey makes a key for the admin routes.
func (s *service) operatorKey() (string, error) {
	token, hint, hash := api.NewToken()
	_, err := s.Store.CreateAPIKey(s.T.Context(), postgres.APIKey{Owner: "operator", Hint: hint, Admin: true}, hash)
	return token, err
}

func (d *described) wantRoutes(patterns []string) {
	d.t.Helper()
	var want, got []string
	for _, pattern := range patterns {
		want = append(want, strings.ReplaceAll(pattern, "...}", "}"))
	}
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			got = append(got, method+" "+path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		d.t.Errorf("routes in the document (-served +described):\n%s", diff)
	}
}

// send makes a request that must succeed, and holds body and answer to the
// document.
func (d *described) send(c *client, method, pattern, path string, body map[string]any) answer {
	d.t.Helper()
	var a answer
	if body == nil {
		a = c.do(method, path, "", nil)
	} else {
		content := d.operation(method, pattern).RequestBody.Value.Content["application/json"]
		raw, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		d.check(method+" "+pattern+": the body", content, raw)
		a = c.do(method, path, "application/json", strings.NewReader(string(raw)))
	}
	d.see(method, pattern, a.want(d.t, http.StatusOK))
	return a
}

func (d *described) operation(method, pattern string) *openapi3.Operation {
	d.t.Helper()
	item := d.doc.Paths.Value(pattern)
	if item == nil || item.GetOperation(method) == nil {
		d.t.Fatalf("%s %s is not described", method, pattern)
	}
	return item.GetOperation(method)
}

// see holds an answer to the document.
func (d *described) see(method, pattern string, a answer) {
	d.t.Helper()
	name := method + " " + pattern
	responses := d.operation(method, pattern).Responses
	response := responses.Status(a.status)
	if response == nil {
		response = responses.Default()
	}
	media := a.header.Get("Content-Type")
	if response == nil || response.Value.Content[media] == nil {
		d.t.Fatalf("%s: status %d with %s is not described", name, a.status, media)
	}
	for header := range response.Value.Headers {
		if a.header.Get(header) == "" {
			d.t.Errorf("%s: the header %s is missing", name, header)
		}
	}
	if media == "application/json" {
		d.check(name, response.Value.Content[media], a.body)
	}
	if a.status == http.StatusOK {
		d.seen[name] = true
	}
}

func (d *described) check(what string, content *openapi3.MediaType, raw []byte) {
	d.t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		d.t.Fatalf("%s: %v", what, err)
	}
	if err := content.Schema.Value.VisitJSON(v, openapi3.MultiErrors()); err != nil {
		d.t.Errorf("%s is not as described: %v\n%s", what, err, raw)
	}
}

// events holds the data of server-sent events to the batch's schema.
func (d *described) events(a answer) {
	d.t.Helper()
	seen := 0
	for scanner := bufio.NewScanner(strings.NewReader(string(a.body))); scanner.Scan(); {
		if data, ok := strings.CutPrefix(scanner.Text(), "data: "); ok {
			seen++
			d.check("an event", &openapi3.MediaType{Schema: d.doc.Components.Schemas["Batch"]}, []byte(data))
		}
	}
	if seen == 0 {
		d.t.Error("there was no event")
	}
}

func (d *described) wantAllSeen() {
	d.t.Helper()
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			if !d.seen[method+" "+path] {
				d.t.Errorf("%s %s was not tried", method, path)
			}
		}
	}
}

// Operators alone reach the admin routes; where no keys are asked for, that is
// everybody.
func TestAdminRoutes(t *testing.T) {
	t.Parallel()
	routes := []struct{ method, path string }{
		{http.MethodGet, "/admin/v1/models"}, {http.MethodPatch, "/admin/v1/models/m"},
		{http.MethodDelete, "/admin/v1/holds?model=m"},
		{http.MethodGet, "/admin/v1/daemons"}, {http.MethodGet, "/admin/v1/demand"}, {http.MethodGet, "/admin/v1/demand/m"},
	}
	s := newService(t, nil)
	root := strings.TrimSuffix(s.url, "/v1")
	at := func(url, key string) *client { return &client{service: &service{System: s.System, url: url}, key: key} }
	key, err := s.operatorKey()
	if err != nil {
		t.Fatal(err)
	}
	call := func(c *client, method, path string) answer {
		if method == http.MethodPatch {
			return c.do(method, path, "application/json", strings.NewReader(`{"paused":true}`))
		}
		return c.do(method, path, "", nil)
	}
	ordinary := s.Key("alice", false)
	for _, r := range routes {
		call(at(root, ordinary), r.method, r.path).wantError(t, http.StatusForbidden, "operators_only")
		call(at(root, ""), r.method, r.path).wantError(t, http.StatusUnauthorized, "invalid_api_key")
	}
	if n := s.count(`SELECT count(*) FROM models`); n > 0 {
		t.Error("a model was changed by one who must not")
	}
	operator := at(root, key)
	for _, r := range routes {
		call(operator, r.method, r.path).want(t, http.StatusOK)
	}
	for _, tt := range []struct {
		path, body string
		status     int
		param      any
	}{
		{"m", `{}`, 400, nil},
		{"m", `{"limit":-1}`, 400, "limit"},
		{"m", `{"limit":1000001}`, 400, "limit"},
		{"m", `{"limit":"x"}`, 400, "limit"},
		{"m", `{"limit":1.5}`, 400, "limit"},
		{"m", `{"limit":true}`, 400, "limit"},
		{"m", `{"limit":"auto:5-4"}`, 400, "limit"},
		{"m", `{"limit":"auto:1-1000001"}`, 400, "limit"},
		{"m", `{"colour":1}`, 400, "colour"},
		{"m", `{"escalates_to":"m"}`, 400, "escalates_to"},
		{"m", `{"escalates_to":"x","escalates_before_seconds":0}`, 400, "escalates_before_seconds"},
		{"m", `{"escalates_to":"x","escalates_before_seconds":99999999999999}`, 400, "escalates_before_seconds"},
		{"m", `{"escalates_to":"x","default_escalation":true}`, 400, "default_escalation"},
		{"m", `{"escalates_before_seconds":5}`, 409, nil},
		{"m", `{"upstream_urls":["ftp://secret"]}`, 400, "upstream_urls"},
		{"m", `{"upstream_urls":["http://me:secret@host"]}`, 400, "upstream_urls"},
		{"m", `{"upstream_urls":["http://host#secret"]}`, 400, "upstream_urls"},
		{"m", `{"upstream_urls":["http://host","http://host/"]}`, 400, "upstream_urls"},
		{"m", `{"upstream_api_key":"two secret"}`, 400, "upstream_api_key"},
		{"m", `{"upstream_api_key":"secret"}`, 400, "upstream_api_key"}, // there is no encryption key
		{"m", `{"upstream_headers":{"X-A":"secret"}}`, 400, "upstream_headers"},
		{"m", `{"upstream_headers":{"Host":"secret"}}`, 400, "upstream_headers"},
		{"m", `{"upstream_headers":{"X-A":"secret\nX-B: b"}}`, 400, "upstream_headers"},
		{"m", `{"upstream_auth":"secret"}`, 400, "upstream_auth"},
		{"m", `{"upstream_path":"secret"}`, 400, "upstream_path"},
		{"m", `{"upstream_model":"secret\u0007"}`, 400, "upstream_model"},
		{"m", `{"upstream_stream":"secret"}`, 400, "upstream_stream"},
		{"m", `{"upstream_send_priority":""}`, 400, "upstream_send_priority"},
		{"m", `{"default_upstream":true,"upstream_path":"/x"}`, 400, "default_upstream"},
		{"m", `{"default_upstream":false}`, 400, nil},
		{"", `{"limit":1}`, 400, "model"},
		{"a%00b", `{"limit":1}`, 400, "model"},
		{strings.Repeat("m", 513), `{"limit":1}`, 400, "model"},
	} {
		a := operator.do(http.MethodPatch, "/admin/v1/models/"+tt.path, "application/json", strings.NewReader(tt.body)).wantError(t, tt.status, "")
		if got := a.value("error", "param"); got != tt.param {
			t.Errorf("%s: param %v, want %v", tt.body, got, tt.param)
		}
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("%s: the answer repeats it: %s", tt.body, a.body)
		}
	}
	operator.do(http.MethodPatch, "/admin/v1/models/", "", nil).wantError(t, http.StatusBadRequest, "missing_parameter")
	operator.do(http.MethodPatch, "/admin/v1/models/m", "application/json", strings.NewReader(`{"escalates_before_seconds":null}`)).wantError(t, http.StatusBadRequest, "invalid_type")
	operator.get("/admin/v1/demand?x=1").wantError(t, http.StatusBadRequest, "unknown_parameter")
	operator.get("/admin/v1/daemons?all=perhaps").wantError(t, http.StatusBadRequest, "invalid_value")

	open := newService(t, func(cfg *api.Config) { cfg.Owner = "local" })
	for _, r := range routes {
		call(at(strings.TrimSuffix(open.url, "/v1"), ""), r.method, r.path).want(t, http.StatusOK)
	}
	for _, r := range routes { // nor does a web page reach them
		c := at(strings.TrimSuffix(open.url, "/v1"), "")
		if r.method != http.MethodGet {
			c.do(r.method, r.path, "application/json", strings.NewReader(`{"paused":true}`), "Origin", "https://evil.example").wantError(t, http.StatusForbidden, "forbidden")
		}
	}
}

// The demand is what waits, of all owners, by model and window.
func TestDemand(t *testing.T) {
	t.Parallel()
	s := newService(t, nil) // and nothing is claimed
	for _, owner := range []string{"alice", "bob"} {
		c := s.client(owner)
		file := c.file(requests(5, "a") + strings.ReplaceAll(requests(3, "b"), `"r`, `"s`))
		for _, window := range []string{"24h", "1h"} {
			body := newBatch(file)
			body["completion_window"] = window
			c.post("/batches", body).want(t, http.StatusOK)
		}
	}
	c := s.client("carol")
	done := c.batch(c.file(requests(9, "a")))
	c.do(http.MethodPost, "/batches/"+done+"/cancel", "", nil).want(t, http.StatusOK)
	// One that is retried by hand waits for a claim with a row of its own.
	c.post("/batches/"+done+"/rerun", map[string]any{"lines": []int{4}}).want(t, http.StatusOK)
	demand, err := s.Store.Demand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, d := range demand {
		got[string(d.Model)+" "+d.Window] += d.Pending
	}
	want := map[string]int64{"a 1h": 10, "a 24h": 11, "b 1h": 6, "b 24h": 6}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("demand (-want +got):\n%s", diff)
	}
	// An autoscaler reads one number for each model, also of one that has nothing to do.
	key, err := s.operatorKey()
	if err != nil {
		t.Fatal(err)
	}
	operator := &client{service: &service{System: s.System, url: strings.TrimSuffix(s.url, "/v1")}, key: key}
	for model, want := range map[string]float64{"a": 21, "b": 12, "unheard/of": 0} {
		a := operator.get("/admin/v1/demand/"+model).want(t, http.StatusOK)
		if a.value("pending") != want || a.value("total") != want || a.value("model") != model {
			t.Errorf("demand of %s is %s, want %v", model, a.body, want)
		}
	}
}
