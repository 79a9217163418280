package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
)

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := api.New(api.Config{})
	for _, want := range []string{"Store", "Controller", "Log", "ParseWindow", "Wake"} {
		if err == nil || !strings.Contains(err.Error(), want+" is required") {
			t.Errorf("error %v, want %s in it", err, want)
		}
	}
}

// Who asks for a URL that is not there is told which one they may have meant.
func TestRoutesThatWereMeant(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.client("alice").key
	root := &client{service: &service{System: s.System, url: strings.TrimSuffix(s.url, "/v1")}, key: key}
	for path, want := range map[string]string{
		"/files": `"/v1/files"`, "/batches/batch_1": `"/v1/batches/batch_1"`, "/v1/chat/completions": "url of a line", "/nothing": "",
	} {
		a := root.get(path).wantError(t, http.StatusNotFound, "unknown_url")
		message := a.value("error").(map[string]any)["message"].(string)
		if !strings.Contains(message, want) || want == "" && strings.Contains(message, "mean") {
			t.Errorf("%s: %s", path, message)
		}
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	c := newService(t, nil).client("alice")
	for _, tt := range []struct {
		method, path string
		status       int
		code         string
	}{
		{http.MethodGet, "/nothing", 404, "unknown_url"},
		{http.MethodGet, "/files?order=", 400, "invalid_value"},
		{http.MethodGet, "/files?limit=", 400, "invalid_value"},
		{http.MethodGet, "/files?after=", 400, "invalid_value"},
		{http.MethodPost, "/chat/completions", 404, "unknown_url"},
		{http.MethodPut, "/files", 405, "method_not_allowed"},
		{http.MethodPut, "/batches/x", 405, "method_not_allowed"},
		{http.MethodGet, "/files/x", 404, "not_found"},
		{http.MethodGet, "/files/file-", 404, "not_found"},
		{http.MethodGet, "/files/file-00%2e%2e", 404, "not_found"},
		{http.MethodGet, "/files/" + strings.Repeat("a", 5000), 404, "not_found"},
		{http.MethodGet, "/batches/%00", 404, "not_found"},
		{http.MethodGet, "/models/no/such/model", 404, "not_found"},
		{http.MethodGet, "/files?limit=0", 400, "invalid_value"},
		{http.MethodGet, "/files?limit=10001", 400, "invalid_value"},
		{http.MethodGet, "/files?order=up", 400, "invalid_value"},
		{http.MethodGet, "/files?after=x", 400, "invalid_value"},
		{http.MethodGet, "/files?colour=red", 400, "unknown_parameter"},
		{http.MethodGet, "/files?limit=1&limit=2", 400, "duplicate_parameter"},
		{http.MethodGet, "/files?purpose=%00", 400, "invalid_value"},
		{http.MethodGet, "/files?purpose=%zz", 400, "invalid_query"},
		{http.MethodGet, "/batches?limit=101", 400, "invalid_value"},
		{http.MethodGet, "/batches?after=file-1", 400, "invalid_value"},
		{http.MethodGet, "/batches?status=", 400, "invalid_value"},
		{http.MethodGet, "/batches?status=in_progress,", 400, "invalid_value"},
		{http.MethodGet, "/batches?status=in_progress,done", 400, "invalid_value"},
		{http.MethodGet, "/batches?status=failed&status=expired", 400, "duplicate_parameter"},
	} {
		a := c.do(tt.method, tt.path, "", nil).wantError(t, tt.status, tt.code)
		if tt.status == 405 && a.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", tt.method, tt.path)
		}
		if len(a.body) > 1000 {
			t.Errorf("%s %s: the error repeats all of it", tt.method, tt.path)
		}
	}
	if got := c.get("/files?purpose=vision").want(t, 200).ids(); len(got) > 0 {
		t.Errorf("files %v", got)
	}
}

// badController fails in ways that nobody foresaw.
type badController struct {
	*control.Controller
	panics bool
}

func (b badController) Cancel(context.Context, batch.ID) (postgres.Batch, error) {
	if b.panics {
		panic("secret: out of cheese")
	}
	return postgres.Batch{}, errors.New("secret: dial tcp 10.0.0.7:5432")
}

// Waiting tells nothing, and the batch is shown all the same.
func (badController) Waiting(context.Context, postgres.Batch) (*control.Waiting, error) {
	return nil, errors.New("secret: the broker is away")
}

func (badController) DeleteFile(context.Context, batch.FileID) ([]batch.ID, error) {
	panic(http.ErrAbortHandler)
}

// What is unforeseen is a 500 that says nothing, and the server goes on.
func TestUnknownErrorsLeakNothing(t *testing.T) {
	t.Parallel()
	for _, panics := range []bool{false, true} {
		c := newService(t, func(cfg *api.Config) { cfg.Controller = badController{panics: panics} }).client("alice")
		file := c.file(requests(1, "m"))
		id := c.batch(file)
		a := c.do(http.MethodPost, "/batches/"+id+"/cancel", "", nil).wantError(t, http.StatusInternalServerError, "internal_error")
		if strings.Contains(string(a.body), "secret") {
			t.Errorf("body %s", a.body)
		}
		if _, err := c.try(http.MethodDelete, "/files/"+file, "", nil); err == nil {
			t.Error("a broken connection gave an answer")
		}
		c.get("/batches/"+id).want(t, http.StatusOK)
	}
}

// dial opens a bare connection to the API.
func (s *service) dial() net.Conn {
	s.T.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		s.T.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Clients that stop sending or receiving are cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	var logged lockedBuffer
	s := newService(t, func(cfg *api.Config) {
		cfg.ClientTimeout = 2 * time.Second
		cfg.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := s.client("alice")
	var large strings.Builder // more than the sockets hold
	for i := range 200 {
		large.WriteString(strings.Replace(request(fmt.Sprint(i), "m"), "hello", strings.Repeat("x", 100_000), 1))
	}
	file := c.file(large.String())
	for name, head := range map[string]string{
		"a body that does not come": "POST /v1/batches HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n",
		"a body that nobody reads":  "GET /v1/batches HTTP/1.1\r\nContent-Length: 100\r\n",
	} {
		conn := s.dial()
		if _, err := fmt.Fprintf(conn, "%sHost: x\r\nAuthorization: Bearer %s\r\n\r\n{", head, c.key); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Errorf("%s: the connection is still open", name)
		}
	}

	conn := s.dial()
	if _, err := fmt.Fprintf(conn, "GET /v1/files/%s/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", file, c.key); err != nil {
		t.Fatal(err)
	}
	until(t, "the download is given up", func() bool { return strings.Contains(logged.String(), "/content") })
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if err == nil || isTimeout(err) {
		t.Errorf("a client that stopped reading got the whole file, or is waited for: %v", err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// While the database or the broker is away, clients are told to come back.
func TestOutages(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Owner = "local" })
	c := &client{service: s}
	admin := &client{service: &service{System: s.System, url: strings.TrimSuffix(s.url, "/v1") + "/admin/v1"}}
	file := c.file(requests(1, "m"))
	admin.get("/models").want(t, http.StatusOK)
	away := func(a answer) {
		t.Helper()
		if a.wantError(t, http.StatusServiceUnavailable, "unavailable"); a.header.Get("Retry-After") != "1" {
			t.Errorf("headers %v", a.header)
		}
	}
	s.broker.Cut()
	away(admin.get("/models"))
	waits := c.batch(file) // needs no broker
	until(t, "the batch says that the broker is away", func() bool { return strings.Contains(string(c.get("/batches/"+waits).body), `"code":"no_broker"`) })
	s.broker.Restore()
	s.database.Cut()
	away(c.get("/batches"))
	away(c.post("/batches", newBatch(file)))
	away(c.upload(field{"purpose", "", "batch"}, field{"file", "a.jsonl", requests(3, "m")}))
	s.database.Restore()
	until(t, "the API works again", func() bool { return c.get("/batches").status == http.StatusOK })
	until(t, "so do its admin routes", func() bool { return admin.get("/models").status == http.StatusOK })
}

// AzureOpenAI's clients send their key in a header of its own, and know the
// routes by other paths.
func TestAzureClient(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	file := c.file(strings.Replace(request("a", "m"), "/v1/chat", "/chat", 1))
	azures := map[string]any{"input_file_id": file, "endpoint": "/chat/completions", "completion_window": "24h"}
	for range 2 {
		if got := c.post("/batches", azures, "Idempotency-Key", "k").want(t, http.StatusOK).text("endpoint"); got != "/v1/chat/completions" {
			t.Errorf("the batch is for %s", got)
		}
	}
	for _, test := range []struct {
		path   string
		header []string
		want   int
	}{
		{"/openai/files/" + file, []string{"Api-Key", c.key}, http.StatusOK},
		{"/openai/files/" + file + "/content?api-version=2025-03-01-preview", []string{"api-key", c.key}, http.StatusOK},
		{"/openai/v1/batches?limit=1", []string{"Authorization", "Bearer " + c.key}, http.StatusOK},
		{"/openai/deployments", []string{"Api-Key", c.key}, http.StatusNotFound},
		{"/openai/admin/v1/models", []string{"Api-Key", c.key}, http.StatusNotFound},
		{"/openai/files/" + file, []string{"Api-Key", c.key[:len(c.key)-1]}, http.StatusUnauthorized},
		{"/openai/files/" + file, []string{"Api-Key", c.key, "Authorization", "Bearer "}, http.StatusUnauthorized},
		{"/v1/files/" + file, []string{"Api-Key", ""}, http.StatusUnauthorized},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(s.url, "/v1")+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(test.header); i += 2 {
			r.Header.Set(test.header[i], test.header[i+1])
		}
		resp, err := (&http.Client{Timeout: time.Minute}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("GET %s with %s: status %d, want %d", test.path, test.header[0], resp.StatusCode, test.want)
		}
	}
}

// AzureOpenAI's clients say with each request which version of the API they
// speak. What else is unknown is refused.
func TestAPIVersion(t *testing.T) {
	t.Parallel()
	c := newService(t, nil).client("alice")
	const version = "?api-version=2024-10-21"
	contentType, body := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", requests(2, "m")})
	file := c.do(http.MethodPost, "/files"+version, contentType, strings.NewReader(body)).want(t, http.StatusOK).text("id")
	c.post("/batches"+version, newBatch(file)).want(t, http.StatusOK)
	c.post("/uploads"+version, map[string]any{"filename": "a", "purpose": "batch", "bytes": 1}).want(t, http.StatusOK)
	for _, path := range []string{"/files", "/files/" + file, "/files/" + file + "/content", "/batches", "/models"} {
		c.get(path+version).want(t, http.StatusOK)
	}
	c.get("/files"+version+"&colour=red").wantError(t, http.StatusBadRequest, "unknown_parameter")
}
