package e2e

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"fusillade/internal/testenv"
)

// visitor is an operator on the dashboard.
type visitor struct {
	t      *testing.T
	server string
	client *http.Client
}

func visit(t *testing.T, server, key string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	v := &visitor{t: t, server: server, client: &http.Client{Jar: jar, Timeout: testenv.Patience}}
	if status, _ := v.request(http.MethodPost, "/ui/sign-in", url.Values{"key": {key}}); status != http.StatusOK {
		t.Fatalf("signing in: status %d", status)
	}
	return v
}

func (v *visitor) request(method, path string, form url.Values) (status int, body string) {
	v.t.Helper()
	return v.send(method, path, "application/x-www-form-urlencoded", form.Encode())
}

// json calls the API with the cookie of the visitor.
func (v *visitor) json(method, path, content string) (status int, body string) {
	v.t.Helper()
	return v.send(method, path, "application/json", content)
}

func (v *visitor) send(method, path, contentType, content string) (status int, body string) {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), method, v.server+path, strings.NewReader(content))
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := v.client.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// wantPages looks at pages.
func (v *visitor) wantPages(pages ...string) {
	v.t.Helper()
	for _, page := range pages {
		if status, _ := v.request(http.MethodGet, page, nil); status != http.StatusOK {
			v.t.Errorf("%s: status %d", page, status)
		}
	}
}

// wantActions changes what the API's role may not change, and is told how to; and
// again with deploy/postgres/dashboard.sql.
func (s *secured) wantActions(v *visitor) {
	s.t.Helper()
	var key, event, hook string
	err := s.admin.QueryRow(s.t.Context(), `SELECT (SELECT encode(uuid_send(id), 'hex') FROM api_keys WHERE owner = 'alice'), encode(uuid_send(event_id), 'hex'), encode(uuid_send(webhook_id), 'hex')
		FROM webhook_deliveries LIMIT 1`).Scan(&key, &event, &hook)
	if err != nil {
		s.t.Fatal(err)
	}
	actions := []struct {
		name string
		form url.Values
	}{
		{"create-key", url.Values{"id": {"carol"}, "name": {"of the dashboard"}}},
		{"weigh-owner", url.Values{"id": {"carol"}, "weight": {"2"}}},
		{"weigh-owner", url.Values{"id": {"carol"}, "weight": {"0"}}},
		{"resend-delivery", url.Values{"id": {event + "." + hook}}},
		{"revoke-key", url.Values{"id": {key}, "confirmed": {"yes"}}},
	}
	for _, a := range actions {
		if status, body := v.request(http.MethodPost, "/ui/do/"+a.name, a.form); status != http.StatusConflict || !strings.Contains(body, "dashboard.sql") {
			s.t.Errorf("%s without the privilege: status %d: %s", a.name, status, body)
		}
	}
	endpoint := `{"upstream_urls":["http://one.invalid/v1"],"upstream_model":"theirs"}`
	if status, body := v.json(http.MethodPatch, "/admin/v1/models/moved", endpoint); status != http.StatusForbidden || !strings.Contains(body, "dashboard.sql") {
		s.t.Errorf("an endpoint without the privilege: status %d: %s", status, body)
	}
	s.exec(s.databaseURL("owner"), read(s.t, "../deploy/postgres/dashboard.sql"))
	if status, body := v.json(http.MethodPatch, "/admin/v1/models/moved", endpoint); status != http.StatusOK || !strings.Contains(body, "one.invalid") {
		s.t.Errorf("an endpoint with the privilege: status %d: %s", status, body)
	}
	for _, a := range actions {
		if status, body := v.request(http.MethodPost, "/ui/do/"+a.name, a.form); status != http.StatusOK {
			s.t.Errorf("%s with the privilege: status %d: %s", a.name, status, body)
		}
	}
	s.exec(s.databaseURL("owner"), read(s.t, "../deploy/postgres/grants.sql"))
	// The leader removes what is marked.
	if status, body := v.request(http.MethodPost, "/ui/do/delete-webhook", url.Values{"id": {hook}, "confirmed": {"yes"}}); status != http.StatusOK {
		s.t.Errorf("deleting a webhook: status %d: %s", status, body)
	}
}
