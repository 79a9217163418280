package api_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fusillade/internal/api"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	for name, header := range map[string]string{
		"none": "", "no scheme": c.key, "another scheme": "Basic " + c.key, "no token": "Bearer ",
		"cut short": "Bearer " + c.key[:len(c.key)-1], "too long": "Bearer " + c.key + "A",
		"wrong": "Bearer " + c.key[:len(c.key)-1] + "-", "OpenAI's": "Bearer sk-proj-1234567890",
	} {
		stranger := &client{service: s}
		a := stranger.do(http.MethodGet, "/files", "", nil, "Authorization", header)
		a.wantError(t, http.StatusUnauthorized, "invalid_api_key")
		if a.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: headers %v", name, a.header)
		}
	}
	c.get("/files").want(t, http.StatusOK)
	keys, err := s.Store.APIKeys(t.Context())
	if err != nil || len(keys) != 1 || !keys[0].RevokedAt.IsZero() || keys[0].Owner != "alice" {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	if n := s.count(`SELECT count(*) FROM api_keys WHERE api_keys::text LIKE '%' || $1 || '%'`, c.key[12:]); n > 0 {
		t.Error("the token is stored")
	}
	second := s.client("alice")
	file := c.file(request("a", "m"))
	second.get("/files/"+file).want(t, http.StatusOK) // one owner, two keys
	if err := s.Store.RevokeAPIKey(t.Context(), keys[0].ID); err != nil {
		t.Fatal(err)
	}
	c.get("/files").wantError(t, http.StatusUnauthorized, "invalid_api_key")
	second.get("/files/"+file).want(t, http.StatusOK)
	if err := s.Store.RevokeAPIKey(t.Context(), keys[0].ID); err == nil {
		t.Error("a key can be revoked twice")
	}
}

// Without keys everything is one owner's, and web pages are kept out.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Owner, cfg.Hosts = "local", []string{"api.internal", "*.lan"} })
	c := &client{service: s}
	file := c.file(request("a", "m"))
	c.get("/files/"+file).want(t, http.StatusOK)
	for host, want := range map[string]int{
		"evil.example": 403, "evil.example:80": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example": 403, "evil.lan.example": 403,
		"evillan": 403, "api.internal.evil.example": 403, "internal": 403, "": 403,
		"localhost": 200, "localhost:8080": 200, "LOCALHOST.": 200, "x.localhost": 200, "127.0.0.1": 200, "10.1.2.3:80": 200, "[::1]:8080": 200,
		"[2001:db8::1]": 200, "api.internal": 200, "API.internal:8000": 200, "a.b.lan": 200,
	} {
		if got := c.statusFor(host); got != want {
			t.Errorf("host %q: status %d, want %d", host, got, want)
		}
	}
	contentType, body := form(field{"purpose", "", "batch"}, field{"file", "a.jsonl", request("b", "m")})
	for _, headers := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
		c.do(http.MethodPost, "/files", contentType, strings.NewReader(body), headers...).wantError(t, http.StatusForbidden, "forbidden")
	}
	if n := s.count(`SELECT count(*) FROM files`); n != 1 {
		t.Errorf("%d files, want one", n)
	}
}

// statusFor asks for the files under a Host header, which is sent as it is.
func (c *client) statusFor(host string) int {
	c.T.Helper()
	conn := c.dial()
	if _, err := fmt.Fprintf(conn, "GET /v1/files HTTP/1.1\r\nHost: %s\r\nSec-Fetch-Site: same-origin\r\nConnection: close\r\n\r\n", host); err != nil {
		c.T.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.T.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
