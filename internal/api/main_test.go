package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/app"
	"fusillade/internal/checker"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
	"fusillade/internal/testenv/testapi"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// patience is how long a test waits for what must happen at last.
const patience = testenv.Patience

// until waits for a condition, which it asks again and again.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	testenv.Until(t, patience, what, holds)
}

// service is the API on a database of its own.
type service struct {
	*testapi.System
	url      string       // with /v1
	database *proxy.Proxy // between the API and Postgres
	broker   *proxy.Proxy // between the API and NATS
}

// newService serves the API; with keys, unless change says otherwise.
func newService(t testing.TB, change func(*api.Config)) *service {
	t.Helper()
	s := new(service)
	s.System = testapi.New(t, func(system *testapi.System) {
		var databaseURL, brokerURL string
		s.database, databaseURL = proxy.Postgres(t, system.DatabaseURL)
		s.broker, brokerURL = proxy.NATS(t, system.BrokerURL)
		system.Set(&system.Settings.Postgres.URL, databaseURL)
		system.Set(&system.Settings.NATS.URL, brokerURL)
	})
	checker.AtEnd(t, s.DB)
	cfg, err := app.APIConfig(s.Resources, s.Settings.API())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Owner, cfg.RetryAfter, cfg.DrainTimeout = "", time.Second, 5*time.Second
	if change != nil {
		change(&cfg)
	}
	server, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.url = s.Serve(server) + "/v1"
	return s
}

// count is a number in the database.
func (s *service) count(sql string, args ...any) (n int) {
	s.T.Helper()
	if err := s.DB.QueryRow(s.T.Context(), sql, args...).Scan(&n); err != nil {
		s.T.Fatal(err)
	}
	return n
}

// client speaks plain HTTP to the API.
type client struct {
	*service
	key string
}

func (s *service) client(owner string) *client { return &client{s, s.Key(owner, false)} }

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (c *client) do(method, path, contentType string, body io.Reader, headers ...string) answer {
	c.T.Helper()
	a, err := c.try(method, path, contentType, body, headers...)
	if err != nil {
		c.T.Fatal(err)
	}
	return a
}

func (c *client) try(method, path, contentType string, body io.Reader, headers ...string) (answer, error) {
	c.T.Helper()
	r, err := http.NewRequestWithContext(c.T.Context(), method, c.url+path, body)
	if err != nil {
		c.T.Fatal(err)
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, raw}, err
}

func (c *client) get(path string) answer { c.T.Helper(); return c.do(http.MethodGet, path, "", nil) }

func (c *client) post(path string, body any, headers ...string) answer {
	c.T.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		c.T.Fatal(err)
	}
	return c.do(http.MethodPost, path, "application/json", bytes.NewReader(raw), headers...)
}

// field is a part of a form; a file has a name.
type field struct{ name, filename, value string }

func form(fields ...field) (contentType, body string) {
	var out bytes.Buffer
	w := multipart.NewWriter(&out)
	for _, f := range fields {
		var part io.Writer
		if f.filename != "" {
			part, _ = w.CreateFormFile(f.name, f.filename)
		} else {
			part, _ = w.CreateFormField(f.name)
		}
		_, _ = io.WriteString(part, f.value)
	}
	_ = w.Close()
	return w.FormDataContentType(), out.String()
}

func (c *client) upload(fields ...field) answer {
	c.T.Helper()
	contentType, body := form(fields...)
	return c.do(http.MethodPost, "/files", contentType, strings.NewReader(body))
}

// file uploads a file that must be taken, and returns its id.
func (c *client) file(content string) string {
	c.T.Helper()
	a := c.upload(field{"purpose", "", "batch"}, field{"file", "requests.jsonl", content})
	return a.want(c.T, http.StatusOK).text("id")
}

func (c *client) batch(file string) string {
	c.T.Helper()
	return c.post("/batches", newBatch(file)).want(c.T, http.StatusOK).text("id")
}

func newBatch(file string) map[string]any {
	return map[string]any{"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
}

// awaitEnd waits until the batch has ended.
func (c *client) awaitEnd(id string) answer {
	c.T.Helper()
	var a answer
	until(c.T, "the batch has ended", func() bool {
		a = c.get("/batches/"+id).want(c.T, http.StatusOK)
		return a.text("status") != "in_progress"
	})
	return a
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// value is a member of the answer, by its path.
func (a answer) value(path ...string) any {
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		return fmt.Sprintf("%s: %v", a.body, err)
	}
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func (a answer) text(path ...string) string {
	s, _ := a.value(path...).(string)
	return s
}

// ids are those of a list's objects.
func (a answer) ids() (out []string) {
	data, _ := a.value("data").([]any)
	for _, object := range data {
		m, _ := object.(map[string]any)
		id, _ := m["id"].(string)
		out = append(out, id)
	}
	return out
}

// wantError checks an error in all that all errors have in common.
func (a answer) wantError(t testing.TB, status int, code string) answer {
	t.Helper()
	a.want(t, status)
	object, _ := a.value("error").(map[string]any)
	for _, name := range []string{"message", "type", "param", "code"} {
		if _, ok := object[name]; !ok {
			t.Errorf("the error lacks %s: %s", name, a.body)
		}
	}
	if len(object) != 4 || object["message"] == "" || object["type"] == "" {
		t.Errorf("error %s", a.body)
	}
	if code != "" && object["code"] != code {
		t.Errorf("code %v, want %s: %s", object["code"], code, a.body)
	}
	if a.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(a.header.Get("X-Request-Id"), "req_") {
		t.Errorf("headers %v", a.header)
	}
	return a
}

// request is a line of an input file.
func request(customID, model string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":%q,"messages":[{"role":"user","content":"hello"}]}}`+"\n", customID, model)
}

func requests(n int, model string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(request(fmt.Sprintf("r%d", i), model))
	}
	return b.String()
}
