package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/api"
	"fusillade/internal/app"
	"fusillade/internal/checker"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
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
	t         testing.TB
	url       string       // with /v1
	database  *proxy.Proxy // between the API and Postgres
	broker    *proxy.Proxy // between the API and NATS
	store     *postgres.Store
	db        *pgxpool.Pool // to look at the tables themselves
	endpoint  *mock.Server
	resources app.Resources
	settings  config.Standalone
}

// newService serves the API; with keys, unless change says otherwise.
func newService(t testing.TB, change func(*api.Config)) *service {
	t.Helper()
	s := &service{t: t}
	if err := config.Load(&s.settings); err != nil {
		t.Fatal(err)
	}
	direct := testenv.DatabaseURL(t)
	var databaseURL, brokerURL string
	s.database, databaseURL = proxy.Postgres(t, direct)
	s.broker, brokerURL = proxy.NATS(t, testenv.NATS(t).URL())
	s.set(&s.settings.Postgres.URL, databaseURL)
	s.set(&s.settings.NATS.URL, brokerURL)
	var err error
	s.resources, err = app.Connect(t.Context(), "standalone", &s.settings.Process, &s.settings.Daemon, testenv.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.resources.Close)
	s.store = s.resources.Store
	if s.db, err = pgxpool.New(t.Context(), direct); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.db.Close)
	checker.AtEnd(t, s.db)
	cfg, err := app.APIConfig(s.resources, s.settings.API())
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
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + listener.Addr().String() + "/v1"
	s.run(func(taking context.Context) error { return server.Run(taking, listener) })
	return s
}

// run runs something until the end of the test.
func (s *service) run(f func(context.Context) error) { testenv.Run(s.t, f) }

// work starts a dispatcher and a consumer that call a mock endpoint.
func (s *service) work(answers mock.Settings) {
	s.t.Helper()
	var err error
	if s.endpoint, err = mock.New(mock.Config{Settings: answers, Seed: 1}); err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(s.endpoint)
	s.t.Cleanup(server.Close)
	s.workAt(server.URL)
}

// workAt starts a dispatcher and a consumer that call an endpoint.
func (s *service) workAt(url string) {
	s.t.Helper()
	s.run(s.worker(url))
}

// worker is a dispatcher and a consumer with the settings as they are now.
func (s *service) worker(url string) func(context.Context) error {
	s.t.Helper()
	s.set(&s.settings.Upstream.URL, url)
	s.settings.Backoff, s.settings.MaxBackoff = config.Milliseconds(20*time.Millisecond), config.Milliseconds(200*time.Millisecond)
	settings := s.settings
	settings.DrainTimeout = config.Milliseconds(100 * time.Millisecond) // some endpoints hang
	resources := s.resources
	return func(taking context.Context) error {
		return app.Standalone(taking, context.Background(), resources, &settings, nil)
	}
}

func (s *service) set(setting interface{ Set(string) error }, value string) {
	s.t.Helper()
	if err := setting.Set(value); err != nil {
		s.t.Fatal(err)
	}
}

// key makes a key of an owner.
func (s *service) key(owner string) string {
	s.t.Helper()
	token, hint, hash := api.NewToken()
	if _, err := s.store.CreateAPIKey(s.t.Context(), postgres.APIKey{Owner: owner, Hint: hint}, hash); err != nil {
		s.t.Fatal(err)
	}
	return token
}

// count is a number in the database.
func (s *service) count(sql string, args ...any) (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), sql, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// client speaks plain HTTP to the API.
type client struct {
	*service
	key string
}

func (s *service) client(owner string) *client { return &client{s, s.key(owner)} }

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (c *client) do(method, path, contentType string, body io.Reader, headers ...string) answer {
	c.t.Helper()
	a, err := c.try(method, path, contentType, body, headers...)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

func (c *client) try(method, path, contentType string, body io.Reader, headers ...string) (answer, error) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, body)
	if err != nil {
		c.t.Fatal(err)
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

func (c *client) get(path string) answer { c.t.Helper(); return c.do(http.MethodGet, path, "", nil) }

func (c *client) post(path string, body any, headers ...string) answer {
	c.t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
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
	c.t.Helper()
	contentType, body := form(fields...)
	return c.do(http.MethodPost, "/files", contentType, strings.NewReader(body))
}

// file uploads a file that must be taken, and returns its id.
func (c *client) file(content string) string {
	c.t.Helper()
	a := c.upload(field{"purpose", "", "batch"}, field{"file", "requests.jsonl", content})
	return a.want(c.t, http.StatusOK).text("id")
}

func (c *client) batch(file string) string {
	c.t.Helper()
	return c.post("/batches", newBatch(file)).want(c.t, http.StatusOK).text("id")
}

func newBatch(file string) map[string]any {
	return map[string]any{"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
}

// awaitEnd waits until the batch has ended.
func (c *client) awaitEnd(id string) answer {
	c.t.Helper()
	var a answer
	until(c.t, "the batch has ended", func() bool {
		a = c.get("/batches/"+id).want(c.t, http.StatusOK)
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
