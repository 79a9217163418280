package ui_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"fusillade/internal/config"
	"fusillade/internal/mock"
)

// Sessions stand for the key, on every process, until they are ended or the key is
// revoked; the cookie is not the key, and no script can read it.
func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.Key("alice", false)
	c := w.client()

	if a := c.get("/ui/batches?status=failed"); a.status != http.StatusSeeOther || a.location != "/ui/sign-in?next="+url.QueryEscape("/ui/batches?status=failed") {
		t.Errorf("without a session the page answers %d to %s", a.status, a.location)
	}
	if a := c.post("/ui/sign-in", url.Values{"key": {key[:len(key)-1] + "!"}}); a.status != http.StatusUnauthorized || !strings.Contains(a.body, "Incorrect API key") {
		t.Errorf("a wrong key is answered with %d: %s", a.status, a.body)
	}
	for _, next := range []string{"//evil.example/", "https://evil.example/ui/", `/\evil.example`, "/ui/../v1/batches//"} {
		other := w.client()
		if a := other.post("/ui/sign-in", url.Values{"key": {key}, "next": {next}}); strings.Contains(a.location, "evil") {
			t.Errorf("next=%s leads to %s", next, a.location)
		}
	}
	a := c.post("/ui/sign-in", url.Values{"key": {key}, "next": {"/ui/batches?status=failed"}})
	if a.status != http.StatusSeeOther || a.location != "/ui/batches?status=failed" {
		t.Fatalf("signing in answers %d to %s", a.status, a.location)
	}
	cookie := a.header.Get("Set-Cookie")
	for _, part := range []string{"HttpOnly", "SameSite=Strict", "Max-Age=3600", "Path=/"} {
		if !strings.Contains(cookie, part) {
			t.Errorf("the cookie lacks %s: %s", part, cookie)
		}
	}
	if strings.Contains(cookie, key) || strings.Contains(cookie, "Secure") {
		t.Errorf("the cookie is %s", cookie)
	}
	if secure := w.client().post("/ui/sign-in", url.Values{"key": {key}}, "X-Forwarded-Proto", "https"); !strings.Contains(secure.header.Get("Set-Cookie"), "Secure") {
		t.Error("behind HTTPS the cookie is not Secure")
	}

	// On another process, and on the API.
	c.base = w.serve()
	if a := c.get("/ui/"); a.status != http.StatusOK {
		t.Errorf("another process answers %d", a.status)
	}
	if a := c.get("/v1/batches"); a.status != http.StatusOK {
		t.Errorf("the API answers %d: %s", a.status, a.body)
	}
	for _, from := range []string{"cross-site", "same-site"} {
		if a := c.do(http.MethodPost, "/v1/batches", "application/json", strings.NewReader("{}"), "Sec-Fetch-Site", from); a.status != http.StatusForbidden {
			t.Errorf("what a page of another site sends is answered with %d: %s", a.status, a.body)
		}
		if a := c.post("/ui/do/cancel-batches", url.Values{"id": {"batch_0"}}, "Sec-Fetch-Site", from); a.status != http.StatusForbidden {
			t.Errorf("a form of another site is answered with %d", a.status)
		}
	}

	if a := c.post("/ui/sign-out", nil); a.status != http.StatusSeeOther {
		t.Errorf("signing out answers %d", a.status)
	}
	if a := c.get("/v1/batches"); a.status != http.StatusUnauthorized {
		t.Errorf("after signing out the API answers %d", a.status)
	}

	// A copy of the cookie is of no use after the session has ended, and none is
	// when its key was revoked.
	again := w.signedIn(key)
	if _, err := w.DB.Exec(t.Context(), `UPDATE api_keys SET revoked_at = now() WHERE owner = 'alice'`); err != nil {
		t.Fatal(err)
	}
	if a := again.get("/v1/batches"); a.status != http.StatusUnauthorized {
		t.Errorf("after the key was revoked the API answers %d", a.status)
	}
}

// A session lasts for its time since the last page, and each key has so many.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.Key("alice", false)
	c := w.signedIn(key)
	if a := c.get("/ui/"); a.header.Get("Set-Cookie") != "" {
		t.Error("a young session is renewed")
	}
	w.exec(`UPDATE sessions SET expires_at = now() + interval '10 min'`)
	if a := c.get("/ui/"); !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=3600") {
		t.Error("an old session is not renewed")
	}
	w.exec(`UPDATE sessions SET expires_at = now() - interval '1 s'`)
	if a := c.get("/ui/"); a.status != http.StatusSeeOther {
		t.Errorf("a session that has expired is answered with %d", a.status)
	}
	first := w.signedIn(key)
	if n := w.count(`SELECT count(*) FROM sessions`); n != 1 {
		t.Errorf("there are %d sessions: what has expired is not removed", n)
	}
	for range 32 {
		w.signedIn(key)
	}
	if n := w.count(`SELECT count(*) FROM sessions`); n != 32 {
		t.Errorf("one key has %d sessions, want 32", n)
	}
	if a := first.get("/ui/"); a.status != http.StatusSeeOther {
		t.Errorf("the oldest session goes on: %d", a.status)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.T.Helper()
	if _, err := w.DB.Exec(w.T.Context(), sql, args...); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) count(sql string) (n int) {
	w.T.Helper()
	if err := w.DB.QueryRow(w.T.Context(), sql).Scan(&n); err != nil {
		w.T.Fatal(err)
	}
	return n
}

// Owners see and change what is theirs. Operators see how far others' batches are,
// and nothing of what is in them.
func TestOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *config.Standalone) {
		s.ModelPrices = config.ModelPrices{"gpt": {Prompt: 1_000_000, Completion: 2_000_000}}
	})
	w.Work(mock.Settings{})
	alice, bob, root := w.signedIn(w.Key("alice", false)), w.signedIn(w.Key("bob", false)), w.signedIn(w.Key("root", true))
	id := alice.batch(lines(3, "gpt", "alice's secret"), map[string]string{"name": "nightly"})
	w.finished(id)

	alice.get("/ui/batches/"+id).has(t, "Cost")
	for _, path := range []string{"/ui/batches/" + id, "/ui/batches/" + id + "/requests", "/ui/batches/" + id + "/requests/1"} {
		if a := alice.get(path); a.status != http.StatusOK {
			t.Errorf("%s answers its owner with %d: %s", path, a.status, a.body)
		}
		if a := bob.get(path); a.status != http.StatusNotFound {
			t.Errorf("%s answers another owner with %d", path, a.status)
		}
	}
	for _, path := range []string{"/ui/", "/ui/batches", "/ui/batches?owner=alice", "/ui/batches?find=" + id, "/ui/batches?find=request-1", "/ui/files", "/ui/models"} {
		if a := bob.get(path); a.status != http.StatusOK || strings.Contains(a.body, "batch_") && strings.Contains(a.body, id+"<") || strings.Contains(a.body, "nightly") || strings.Contains(a.body, "secret") {
			t.Errorf("%s shows another owner alice's: %d %s", path, a.status, a.body)
		}
		if a := alice.get(path); strings.Contains(a.body, "secret") {
			t.Errorf("%s shows a prompt", path)
		}
	}
	alice.get("/ui/batches?find=request-1").has(t, id)
	alice.get("/ui/batches?find="+id).has(t, id)
	alice.get("/ui/batches/"+id+"/requests/1").has(t, "alice&#39;s secret", "choices")
	for _, path := range []string{"/ui/daemons", "/ui/keys", "/ui/webhooks", "/ui/owners"} {
		if a := alice.get(path); a.status != http.StatusForbidden {
			t.Errorf("%s answers an owner with %d", path, a.status)
		}
		if a := root.get(path); a.status != http.StatusOK {
			t.Errorf("%s answers an operator with %d: %s", path, a.status, a.body)
		}
	}
	root.get("/ui/batches").has(t, id, "alice")
	root.get("/ui/batches?owner=alice").has(t, id)
	root.get("/ui/batches/"+id).has(t, "for its owner alone", "Delete")
	if a := root.get("/ui/batches/" + id + "/requests/1"); a.status != http.StatusNotFound {
		t.Errorf("an operator sees a request of an owner: %d", a.status)
	}

	confirmed := url.Values{"id": {id}, "confirmed": {"yes"}, "back": {"/ui/batches"}}
	for _, action := range []string{"cancel-batches", "rerun-batches", "delete-batches"} {
		if a := bob.post("/ui/do/"+action, confirmed); a.status != http.StatusConflict || !strings.Contains(a.body, "No such batch") {
			t.Errorf("%s of another owner's batch answers %d: %s", action, a.status, a.body)
		}
	}
	for _, action := range []string{"pause-model", "lift-holds", "create-key", "revoke-key", "weigh-owner", "resend-delivery", "delete-webhook", "limit-model"} {
		if a := alice.post("/ui/do/"+action, url.Values{"id": {"gpt"}, "confirmed": {"yes"}}); a.status != http.StatusForbidden {
			t.Errorf("%s answers an owner with %d", action, a.status)
		}
	}
	if a := alice.post("/ui/do/delete-batches", url.Values{"id": {id}, "back": {"/ui/batches"}}); a.status != http.StatusOK || !strings.Contains(a.body, "This cannot be undone") {
		t.Errorf("a delete asks nothing: %d %s", a.status, a.body)
	}
	alice.get("/ui/batches").has(t, id)
	if a := alice.post("/ui/do/delete-batches", confirmed); a.status != http.StatusSeeOther {
		t.Errorf("a confirmed delete answers %d: %s", a.status, a.body)
	}
	if a := alice.get("/ui/batches"); strings.Contains(a.body, id) {
		t.Error("the batch is still listed")
	}
}

// Where no keys are asked for there is nobody to sign in, and pages of other sites
// are kept out by the API's own check.
func TestWithoutKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *config.Standalone) { s.Server.Auth = config.AuthNone })
	c := w.client()
	c.get("/ui/").has(t, "Overview", "Owners")
	if a := c.get("/"); a.location != "/ui/" {
		t.Errorf("the root leads to %q", a.location)
	}
	if a := c.post("/ui/do/cancel-batches", url.Values{"id": {"x"}, "confirmed": {"yes"}}, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusForbidden {
		t.Errorf("a form of another site is answered with %d", a.status)
	}
	if a := c.get("/ui/nothing"); a.status != http.StatusNotFound {
		t.Errorf("a page that does not exist is answered with %d", a.status)
	}
}

// The dashboard can be switched off.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *config.Standalone) { s.UI = false })
	for _, path := range []string{"/ui/", "/ui/sign-in", "/"} {
		if a := w.client().get(path); a.status != http.StatusNotFound {
			t.Errorf("%s is answered with %d", path, a.status)
		}
	}
}

// Files are listed with what they ask for, and what that costs at most.
func TestFilesAreSurveyed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *config.Standalone) { s.ModelPrices = config.ModelPrices{"gpt": {Completion: 1_000_000_000}} })
	alice := w.signedIn(w.Key("alice", false))
	alice.upload(lines(3, "gpt", "hello"))
	alice.get("/ui/files").has(t, "Prompt tokens", ">≤ 1", "536<", `<td class="n">2</td>`, "≤ 1.536<")
	alice.upload(lines(1, "other", "hello"))
	if a := alice.get("/ui/files"); !strings.Contains(a.body, "≤ 512<") || !strings.Contains(a.body, `<td class="n">–</td>`) {
		t.Errorf("a model without a price: %s", a.body)
	}
	if _, err := w.DB.Exec(t.Context(), `UPDATE files SET survey = NULL`); err != nil {
		t.Fatal(err)
	}
	if a := alice.get("/ui/files"); a.status != http.StatusOK || strings.Contains(a.body, "Cost") || !strings.Contains(a.body, "requests.jsonl") {
		t.Errorf("files of an earlier release: %d %s", a.status, a.body)
	}
}

// A batch shows its budget, what of it is spent, and when it was.
func TestBudgetIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *config.Standalone) { s.ModelPrices = config.ModelPrices{"gpt": {Prompt: 1_000_000}} })
	w.Work(mock.Settings{Latency: "200ms"})
	alice := w.signedIn(w.Key("alice", false))
	id := alice.batch(lines(60, "gpt", "hello"), map[string]string{"fusillade-budget-tokens": "1", "fusillade-budget-cost": "5"})
	w.finished(id)
	alice.get("/ui/batches/"+id).has(t, "Budget, tokens", "of 1<", "Budget, cost", "of 5.00<", "budget spent", "Canceled")
}
