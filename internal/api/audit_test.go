package api_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/api"
	"fusillade/internal/postgres"
)

// written is text that several goroutines write.
type written struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (w *written) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.String()
}

// Operators cancel, rerun and delete batches of others by routes of their own, and by
// no other; each change is logged once with the key of who made it.
func TestOperatorsChangeBatches(t *testing.T) {
	t.Parallel()
	var log written
	s := newService(t, func(cfg *api.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if _, err := s.DB.Exec(t.Context(), `INSERT INTO models (model, paused) VALUES ('m', true)`); err != nil {
		t.Fatal(err)
	}
	alice, bob := s.client("alice"), s.client("bob")
	root := strings.TrimSuffix(s.url, "/v1")
	token, hint, hash := api.NewToken()
	keyID, err := s.Store.CreateAPIKey(t.Context(), postgres.APIKey{Owner: "root", Hint: hint, Admin: true}, hash)
	if err != nil {
		t.Fatal(err)
	}
	operator := &client{service: &service{System: s.System, url: root}, key: token}
	id := alice.batch(alice.file(requests(3, "m")))
	cancel, rerun, one := "/admin/v1/batches/"+id+"/cancel", "/admin/v1/batches/"+id+"/rerun", "/admin/v1/batches/"+id

	for _, c := range []*client{{service: operator.service, key: alice.key}, {service: operator.service, key: bob.key}} {
		c.post(cancel, map[string]any{}).wantError(t, http.StatusForbidden, "operators_only")
		c.do(http.MethodDelete, one, "", nil).wantError(t, http.StatusForbidden, "operators_only")
	}
	(&client{service: s, key: token}).post("/batches/"+id+"/cancel", map[string]any{}).want(t, http.StatusNotFound)

	if a := operator.post(cancel, map[string]any{}).want(t, http.StatusOK); a.text("status") != "cancelled" {
		t.Errorf("the batch is %s", a.text("status"))
	}
	operator.post(cancel, map[string]any{}).want(t, http.StatusOK)
	operator.post(rerun, map[string]any{"statuses": []string{"canceled"}}).want(t, http.StatusOK)
	operator.do(http.MethodDelete, one, "", nil).want(t, http.StatusOK)
	operator.do(http.MethodDelete, one, "", nil).want(t, http.StatusNotFound)
	alice.get("/batches/"+id).want(t, http.StatusNotFound)
	for _, what := range []string{"batch canceled", "batch rerun", "batch deleted"} {
		if n := strings.Count(log.String(), `msg="`+what+`" batch_id=`+id+" owner=alice by=root key_id="+keyID); n != 1 {
			t.Errorf("%q is logged %d times, want once:\n%s", what, n, log.String())
		}
	}
	if strings.Contains(log.String(), token) {
		t.Error("a key was logged")
	}
}
