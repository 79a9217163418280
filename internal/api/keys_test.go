package api_test

import (
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
	keys, err := s.store.APIKeys(t.Context())
	if err != nil || len(keys) != 1 || !keys[0].RevokedAt.IsZero() || keys[0].Owner != "alice" {
		t.Fatalf("keys %+v, %v", keys, err)
	}
	if n := s.count(`SELECT count(*) FROM api_keys WHERE api_keys::text LIKE '%' || $1 || '%'`, c.key[12:]); n > 0 {
		t.Error("the token is stored")
	}
	second := s.client("alice")
	file := c.file(request("a", "m"))
	second.get("/files/"+file).want(t, http.StatusOK) // one owner, two keys
	if err := s.store.RevokeAPIKey(t.Context(), keys[0].ID); err != nil {
		t.Fatal(err)
	}
	c.get("/files").wantError(t, http.StatusUnauthorized, "invalid_api_key")
	second.get("/files/"+file).want(t, http.StatusOK)
	if err := s.store.RevokeAPIKey(t.Context(), keys[0].ID); err == nil {
		t.Error("a key can be revoked twice")
	}
}

// Without keys everything is one owner's, and web pages are kept out.
func TestNoKeys(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Owner, cfg.Loopback = "local", true })
	c := &client{service: s}
	file := c.file(request("a", "m"))
	c.get("/files/"+file).want(t, http.StatusOK)
	for _, host := range []string{"evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/files", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("host %s: status %d", host, resp.StatusCode)
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
