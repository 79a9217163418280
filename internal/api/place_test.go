package api_test

import (
	"errors"
	"net/http"
	"testing"

	"fusillade/internal/postgres"
)

// A batch behind others of its owner says how many requests are ahead of it, and how
// long they take at their rate.
func TestPlaceOfABatch(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	first := c.batch(c.file(requests(7, "m")))
	second := c.batch(c.file(requests(1, "m")))
	other := s.client("bob")
	alone := other.batch(other.file(requests(1, "m")))
	if _, err := s.DB.Exec(t.Context(), `UPDATE batches SET created_at = now() - interval '1 min', expires_at = expires_at - CASE WHEN total = 7 THEN interval '1 h' ELSE '0' END`); err != nil {
		t.Fatal(err)
	}
	consumer := postgres.Daemon{ID: postgres.NewDaemonID(), Role: "consumer", Hostname: "host", PID: 1, Version: "test"}
	if err := errors.Join(s.Resources.Store.RegisterDaemon(t.Context(), consumer), s.Resources.Store.Heartbeat(t.Context(), consumer.ID, postgres.Progress{})); err != nil {
		t.Fatal(err)
	}
	for id, ahead := range map[string]float64{first: 0, second: 7} {
		a := c.get("/batches/"+id).want(t, http.StatusOK)
		if a.value("x_status", "code") != "queued" || a.value("x_status", "requests_ahead") != ahead || a.value("x_status", "estimated_seconds") != nil {
			t.Errorf("%s, want %v ahead", a.body, ahead)
		}
	}
	if a := other.get("/batches/" + alone); a.value("x_status", "requests_ahead") != 0.0 {
		t.Errorf("another owner's: %s", a.body)
	}
}
