package api_test

import (
	"net/http"
	"strings"
	"testing"

	"fusillade/internal/mock"
)

// What belongs to another owner is not there: on every route, with every kind
// of id, and in the same words as for what was never made.
func TestOtherOwnersSeeNothing(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.Work(mock.Settings{Errors: "400=0.5"})
	alice, bob := s.client("alice"), s.client("bob")
	file := alice.file(requests(20, "secret-model"))
	ended := alice.awaitEnd(alice.batch(file))
	id := ended.text("id")
	output, failures := ended.text("output_file_id"), ended.text("error_file_id")
	if output == "" || failures == "" {
		t.Fatalf("the batch has no output or no errors: %s", ended.body)
	}

	const unknown = "00000000000000000000000000000001"
	uploading := alice.post("/uploads", map[string]any{"filename": "a", "purpose": "batch", "bytes": 1}).want(t, http.StatusOK).text("id")
	never := strings.NewReplacer(uploading, "upload_"+unknown, id, "batch_"+unknown, file, "file-"+unknown, output, "file-output-"+unknown,
		failures, "file-error-"+unknown, "secret-model", "no-model")
	routes := []struct {
		method, path string
		body         any
		kept         bool // the owner may do it, and all is as it was
	}{
		{http.MethodGet, "/files/" + file, nil, true},
		{http.MethodGet, "/files/" + file + "/content", nil, true},
		{http.MethodGet, "/files/" + output, nil, true},
		{http.MethodGet, "/files/" + output + "/content", nil, true},
		{http.MethodGet, "/files/" + failures, nil, true},
		{http.MethodGet, "/files/" + failures + "/content", nil, true},
		{http.MethodGet, "/batches/" + id, nil, true},
		{http.MethodGet, "/batches/" + id + "/results", nil, true},
		{http.MethodGet, "/batches/" + id + "/events", nil, true},
		{http.MethodGet, "/models/secret-model", nil, true},
		{http.MethodPost, "/batches", newBatch(file), true},
		{http.MethodPost, "/uploads/" + uploading + "/complete", map[string]any{"part_ids": []string{}}, false},
		{http.MethodPost, "/uploads/" + uploading + "/parts", nil, false},
		{http.MethodPost, "/uploads/" + uploading + "/cancel", nil, false},
		{http.MethodPost, "/batches/" + id + "/cancel", nil, false},
		{http.MethodPost, "/batches/" + id + "/rerun", nil, false},
		{http.MethodPost, "/batches/" + id + "/retry", nil, false},
		{http.MethodDelete, "/files/" + output, nil, false},
		{http.MethodDelete, "/files/" + failures, nil, false},
		{http.MethodDelete, "/files/" + file, nil, false},
		{http.MethodDelete, "/batches/" + id, nil, false},
	}
	call := func(c *client, method, path string, body any) answer {
		if body != nil {
			return c.post(path, body)
		}
		return c.do(method, path, "", nil)
	}
	for _, r := range routes {
		a := call(bob, r.method, r.path, r.body).wantError(t, http.StatusNotFound, "not_found")
		var neverBody any
		if neverBody = r.body; r.path == "/batches" {
			neverBody = newBatch(never.Replace(file))
		}
		b := call(bob, r.method, never.Replace(r.path), neverBody)
		if b.status != http.StatusNotFound || never.Replace(a.text("error", "message")) != b.text("error", "message") {
			t.Errorf("%s %s: what is another's can be told from what is not there: %s, %s", r.method, r.path, a.body, b.body)
		}
		anonymous := &client{service: s}
		call(anonymous, r.method, r.path, r.body).wantError(t, http.StatusUnauthorized, "invalid_api_key")
	}
	for _, path := range []string{"/files", "/batches", "/models", "/files?after=" + output + "&order=asc", "/batches?after=" + id} {
		if ids := bob.get(path).want(t, http.StatusOK).ids(); len(ids) > 0 {
			t.Errorf("%s lists %v to a stranger", path, ids)
		}
	}
	// It was there all the time.
	for _, r := range routes {
		if a := call(alice, r.method, r.path, r.body); r.kept && a.status != http.StatusOK {
			t.Errorf("%s %s: status %d for its owner: %s", r.method, r.path, a.status, a.body)
		}
	}
}
