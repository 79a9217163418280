package ui_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// client is a browser without scripts: it keeps cookies and follows no redirect.
type client struct {
	*world
	http *http.Client
	base string
	key  string // for the API; empty: its session
}

type answer struct {
	status   int
	header   http.Header
	body     string
	location string
}

func (w *world) client() *client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.T.Fatal(err)
	}
	return &client{world: w, base: w.url, http: &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// signedIn is a client of an owner.
func (w *world) signedIn(key string) *client {
	w.T.Helper()
	c := w.client()
	if a := c.post("/ui/sign-in", url.Values{"key": {key}}); a.status != http.StatusSeeOther {
		w.T.Fatalf("signing in was answered with %d: %s", a.status, a.body)
	}
	return c
}

func (c *client) do(method, path, contentType string, body io.Reader, headers ...string) answer {
	c.T.Helper()
	r, err := http.NewRequestWithContext(c.T.Context(), method, c.base+path, body)
	if err != nil {
		c.T.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if c.key != "" {
		r.Header.Set("Authorization", "Bearer "+c.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.T.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.T.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(raw), resp.Header.Get("Location")}
}

func (c *client) get(path string, headers ...string) answer {
	c.T.Helper()
	return c.do(http.MethodGet, path, "", nil, headers...)
}

func (c *client) post(path string, form url.Values, headers ...string) answer {
	c.T.Helper()
	return c.do(http.MethodPost, path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), headers...)
}

// upload uploads a file, and returns its id.
func (c *client) upload(content string) string {
	c.T.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	_ = form.WriteField("purpose", "batch")
	part, _ := form.CreateFormFile("file", "requests.jsonl")
	_, _ = io.WriteString(part, content)
	_ = form.Close()
	return c.id(c.do(http.MethodPost, "/v1/files", form.FormDataContentType(), &body))
}

// batch begins a batch of a file's content, and returns its id.
func (c *client) batch(content string, metadata map[string]string) string {
	c.T.Helper()
	body, err := json.Marshal(map[string]any{"input_file_id": c.upload(content), "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": metadata})
	if err != nil {
		c.T.Fatal(err)
	}
	return c.id(c.do(http.MethodPost, "/v1/batches", "application/json", bytes.NewReader(body)))
}

func (c *client) id(a answer) string {
	c.T.Helper()
	var object struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &object); err != nil || a.status != http.StatusOK {
		c.T.Fatalf("answered with %d: %s", a.status, a.body)
	}
	return object.ID
}

func (a answer) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("the page lacks %q:\n%s", text, a.body)
		}
	}
}
