package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A list has the batches with the statuses that were asked for, and no others.
func TestBatchesAreListedByStatus(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	exec := func(sql string, args ...any) {
		if _, err := s.DB.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	defer exec(`DELETE FROM batches`) // which contradict the other tables
	file := c.file(requests(2, "m"))
	ids := make(map[string]string)
	for _, status := range []string{"in_progress", "cancelling", "completed", "failed", "expired", "cancelled"} {
		ids[status] = c.batch(file)
	}
	s.client("bob").batch(s.client("bob").file(requests(1, "m")))
	ended := `, finished_at = now(), next_seq = 2 WHERE id = replace($1, 'batch_', '')::uuid`
	for status, set := range map[string]string{
		"cancelling": `cancelling_at = now() WHERE id = replace($1, 'batch_', '')::uuid`,
		"completed":  `status = 'completed', completed = 2` + ended, "failed": `status = 'failed', failed = 2` + ended,
		"expired": `status = 'expired', expired = 2` + ended, "cancelled": `status = 'cancelled', canceled = 2` + ended,
	} {
		exec(`UPDATE batches SET `+set, ids[status])
	}
	for query, want := range map[string]string{
		"in_progress":            "in_progress",
		"cancelling":             "cancelling",
		"in_progress,cancelling": "in_progress cancelling",
		"cancelling,expired":     "cancelling expired",
		"completed":              "completed failed",
		"failed":                 "failed",
		"failed,completed":       "completed failed",
		"in_progress,failed":     "in_progress failed",
		"expired,cancelled":      "expired cancelled",
		"in_progress,cancelling,completed,failed,expired,cancelled": "in_progress cancelling completed failed expired cancelled",
	} {
		var found []string
		for _, name := range strings.Fields(want) {
			found = append(found, ids[name])
		}
		slices.Reverse(found) // newest first
		if got := c.get("/batches?status="+query).want(t, http.StatusOK).ids(); !slices.Equal(got, found) {
			t.Errorf("%s: listed %v, want %v", query, got, found)
		}
	}
	first := c.get("/batches?limit=2&status=expired,failed,completed").want(t, http.StatusOK)
	second := c.get("/batches?limit=2&status=expired,failed,completed&after="+first.text("last_id")).want(t, http.StatusOK)
	if first.value("has_more") != true || !slices.Equal(first.ids(), []string{ids["expired"], ids["failed"]}) {
		t.Errorf("the first page: %s", first.body)
	}
	if second.value("has_more") != false || !slices.Equal(second.ids(), []string{ids["completed"]}) {
		t.Errorf("the second page: %s", second.body)
	}
	refused := c.get("/batches?status=done").wantError(t, http.StatusBadRequest, "invalid_value")
	if message := refused.text("error", "message"); refused.value("error", "param") != "status" || !strings.Contains(message, "in_progress, cancelling, completed, failed, expired, cancelled") || !strings.Contains(message, `"done"`) {
		t.Errorf("refused with %s", refused.body)
	}
}

// Where few batches fit, a page has what was found in as many as may be looked at, and
// the next one begins there.
func TestListOfRareBatchesGoesOn(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	exec := func(sql string, args ...any) {
		if _, err := s.DB.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	defer exec(`DELETE FROM batches`) // which contradict the other tables
	rare := c.batch(c.file(requests(1, "m")))
	exec(`UPDATE batches SET status = 'expired', expired = 1, finished_at = now(), next_seq = 1`)
	exec(`INSERT INTO batches (id, file_id, endpoint, completion_window, created_by, status, created_at, expires_at, finished_at, total, completed, next_seq)
SELECT ('f1900000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, file_id, endpoint, completion_window, created_by, 'completed', created_at, expires_at, finished_at, 1, 1, 1
  FROM batches, generate_series(1, 20000) i`)
	path := "/batches?status=expired"
	first := c.get(path).want(t, http.StatusOK)
	if len(first.ids()) != 0 || first.value("has_more") != true || first.text("last_id") == "" {
		t.Fatalf("the first page: %s", first.body)
	}
	second := c.get(path+"&after="+first.text("last_id")).want(t, http.StatusOK)
	if !slices.Equal(second.ids(), []string{rare}) || second.value("has_more") != false {
		t.Errorf("the second page: %s", second.body)
	}
}
