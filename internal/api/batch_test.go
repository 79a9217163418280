package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/api"
	"fusillade/internal/mock"
)

// The object has OpenAI's members, null where there is nothing yet.
func TestBatchObject(t *testing.T) {
	t.Parallel()
	c := newService(t, nil).client("alice")
	file := c.file(requests(3, "m"))
	a := c.post("/batches", map[string]any{
		"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "1d12h",
		"metadata": map[string]string{"a": "b"}, "output_expires_after": map[string]any{"anchor": "created_at", "seconds": 3600},
	}).want(t, http.StatusOK)
	created := a.value("created_at")
	want := map[string]any{
		"id": a.text("id"), "object": "batch", "endpoint": "/v1/chat/completions", "errors": nil, "input_file_id": file,
		"completion_window": "1d12h", "status": "in_progress", "output_file_id": nil, "error_file_id": nil,
		"created_at": created, "in_progress_at": created, "expires_at": created.(float64) + 36*3600, "finalizing_at": nil, "completed_at": nil,
		"failed_at": nil, "expired_at": nil, "cancelling_at": nil, "cancelled_at": nil,
		"request_counts": map[string]any{"total": 3.0, "completed": 0.0, "failed": 0.0}, "metadata": map[string]any{"a": "b"}, "priority": 0.0, "budget": nil,
		"usage": map[string]any{
			"input_tokens": 0.0, "input_tokens_details": map[string]any{"cached_tokens": 0.0},
			"output_tokens": 0.0, "output_tokens_details": map[string]any{"reasoning_tokens": 0.0}, "total_tokens": 0.0, "models": map[string]any{},
		},
		"x_status": nil,
	}
	if diff := cmp.Diff(want, a.value()); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	cancelled := c.do(http.MethodPost, "/batches/"+a.text("id")+"/cancel", "", nil).want(t, http.StatusOK)
	want["status"], want["error_file_id"] = "cancelled", "file-error-"+strings.TrimPrefix(a.text("id"), "batch_")
	want["cancelling_at"], want["cancelled_at"] = cancelled.value("cancelling_at"), cancelled.value("cancelled_at")
	if diff := cmp.Diff(want, cancelled.value()); diff != "" || want["cancelled_at"] == nil || want["cancelling_at"] == nil {
		t.Errorf("cancelled batch (-want +got):\n%s", diff)
	}
	if f := c.get("/files/" + cancelled.text("error_file_id")); f.value("expires_at").(float64) != cancelled.value("cancelled_at").(float64)+3600 {
		t.Errorf("error file %s of %s", f.body, cancelled.body)
	}
}

func TestCreateBatchRefuses(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	file := c.file(requests(3, "m"))
	pairs := func(n int) map[string]any {
		m := make(map[string]any)
		for i := range n {
			m[string(rune('a'+i))] = "v"
		}
		return m
	}
	for _, tt := range []struct {
		name, member string
		value        any
		status       int
		code, param  string
	}{
		{"no file", "input_file_id", nil, 400, "missing_parameter", "input_file_id"},
		{"unknown file", "input_file_id", "file-00000000000000000000000000000001", 404, "not_found", "input_file_id"},
		{"no id", "input_file_id", "nonsense", 404, "not_found", "input_file_id"},
		{"output file", "input_file_id", "file-output-00000000000000000000000000000001", 404, "not_found", "input_file_id"},
		{"number", "input_file_id", 7, 400, "invalid_type", "input_file_id"},
		{"no endpoint", "endpoint", "", 400, "missing_parameter", "endpoint"},
		{"other endpoint", "endpoint", "/v1/embeddings", 400, "mismatched_endpoint", "endpoint"},
		{"no window", "completion_window", "", 400, "missing_parameter", "completion_window"},
		{"bad window", "completion_window", "tomorrow", 400, "invalid_value", "completion_window"},
		{"negative window", "completion_window", "-1h", 400, "invalid_value", "completion_window"},
		{"endless window", "completion_window", "9000d", 400, "invalid_value", "completion_window"},
		{"17 pairs", "metadata", pairs(17), 400, "invalid_value", "metadata"},
		{"a priority too high", "priority", 101, 400, "invalid_value", "priority"},
		{"a priority too low", "priority", -101, 400, "invalid_value", "priority"},
		{"a priority in words", "priority", "high", 400, "invalid_type", "priority"},
		{"a priority in the metadata, in words", "metadata", map[string]any{"fusillade-priority": "high"}, 400, "invalid_value", "metadata.fusillade-priority"},
		{"long key", "metadata", map[string]any{strings.Repeat("é", 65): "v"}, 400, "invalid_value", "metadata"},
		{"empty key", "metadata", map[string]any{"": "v"}, 400, "invalid_value", "metadata"},
		{"long value", "metadata", map[string]any{"k": strings.Repeat("é", 513)}, 400, "invalid_value", "metadata"},
		{"NUL", "metadata", map[string]any{"k": "a\x00b"}, 400, "invalid_value", "metadata"},
		{"no text", "metadata", map[string]any{"k": 1}, 400, "invalid_type", "metadata.k"},
		{"a list", "metadata", []string{"k"}, 400, "invalid_type", "metadata"},
		{"unknown member", "colour", "red", 400, "unknown_parameter", "colour"},
		{"bad anchor", "output_expires_after", map[string]any{"anchor": "now", "seconds": 3600}, 400, "invalid_value", "output_expires_after.anchor"},
		{"bad expiry", "output_expires_after", map[string]any{"anchor": "created_at", "seconds": 1}, 400, "invalid_value", "output_expires_after.seconds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := newBatch(file)
			if body[tt.member] = tt.value; tt.value == nil {
				delete(body, tt.member)
			}
			if got := c.post("/batches", body).wantError(t, tt.status, tt.code).value("error", "param"); got != tt.param {
				t.Errorf("param %v, want %s", got, tt.param)
			}
		})
	}
	for name, body := range map[string]string{"no JSON": "{", "no object": "[]", "nothing": "", "twice": `{"endpoint":"a","endpoint":"b"}`, "more": "{}{}"} {
		if a := c.do(http.MethodPost, "/batches", "application/json", strings.NewReader(body)); a.status != http.StatusBadRequest {
			t.Errorf("%s: status %d: %s", name, a.status, a.body)
		}
	}
	c.do(http.MethodPost, "/batches", "text/plain", strings.NewReader("{}")).wantError(t, http.StatusUnsupportedMediaType, "")
	c.do(http.MethodPost, "/batches", "application/json", strings.NewReader(strings.Repeat(" ", 2<<20))).wantError(t, http.StatusRequestEntityTooLarge, "")
	c.post("/batches", newBatch(file), "Idempotency-Key", strings.Repeat("k", 256)).wantError(t, http.StatusBadRequest, "invalid_value")
	if n := s.count(`SELECT count(*) FROM batches`); n > 0 {
		t.Errorf("%d batches were made", n)
	}
	good := newBatch(file)
	good["metadata"] = map[string]string{strings.Repeat("é", 64): strings.Repeat("é", 512)}
	c.post("/batches", good).want(t, http.StatusOK)
	good["metadata"] = nil
	c.post("/batches", good).want(t, http.StatusOK)
}

// A client that sends all of its request before it reads gets the answer, though
// the request is refused long before its end.
func TestTooLargeBodyIsAnswered(t *testing.T) {
	t.Parallel()
	c := newService(t, nil).client("alice")
	const size = 12 << 20 // more than the system takes before the server does
	address, path, _ := strings.Cut(strings.TrimPrefix(c.url, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	head := fmt.Sprintf("POST /%s/batches HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, address, c.key, size)
	if _, err := io.WriteString(conn, head+strings.Repeat(" ", size)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// One key, one batch, however many ask, and however often, at once.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Allowance.ActiveBatches = 2 })
	alice, bob := s.client("alice"), s.client("bob")
	file := alice.file(requests(3, "m"))
	ids := make([]string, 8)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			raw, _ := json.Marshal(newBatch(file))
			a, err := alice.try(http.MethodPost, "/batches", "application/json", strings.NewReader(string(raw)), "Idempotency-Key", "k")
			if err != nil || a.status != http.StatusOK {
				t.Errorf("%v, %s", err, a.body)
				return
			}
			ids[i] = a.text("id")
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Errorf("batches %v, want one", ids)
		}
	}
	for member, value := range map[string]any{
		"completion_window": "48h", "metadata": map[string]string{"a": "b"},
		"output_expires_after": map[string]any{"anchor": "created_at", "seconds": 3600},
		"input_file_id":        alice.file(requests(3, "m")),
	} {
		other := newBatch(file)
		other[member] = value
		alice.post("/batches", other, "Idempotency-Key", "k").wantError(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	}
	if id := bob.post("/batches", newBatch(bob.file(requests(3, "m"))), "Idempotency-Key", "k").want(t, 200).text("id"); id == ids[0] {
		t.Error("another owner's key leads to this batch")
	}
	// The file may be deleted since, and a batch that is gone is
	// not made again.
	alice.do(http.MethodDelete, "/files/"+file, "", nil).want(t, http.StatusOK)
	if id := alice.post("/batches", newBatch(file), "Idempotency-Key", "k").want(t, http.StatusOK).text("id"); id != ids[0] {
		t.Errorf("batch %s, want %s", id, ids[0])
	}
	alice.do(http.MethodDelete, "/batches/"+ids[0], "", nil).want(t, http.StatusOK)
	alice.post("/batches", newBatch(file), "Idempotency-Key", "k").wantError(t, http.StatusNotFound, "not_found")
}

// A batch that is created again must have the same API key, also after it has
// finished, when the key is gone.
func TestIdempotencyKeyWithUpstreamKey(t *testing.T) {
	t.Parallel()
	keyring := newKeyring(t, 7)
	s := newService(t, func(c *api.Config) { c.Keyring = keyring })
	s.Resources.Keyring = keyring
	c := s.client("alice")
	file := c.file(requests(2, "m"))
	create := func(key string) answer {
		return c.post("/batches", newBatch(file), "Idempotency-Key", "k", upstreamKey, key)
	}
	id := create("sk-one").want(t, http.StatusOK).text("id")
	again := func() {
		t.Helper()
		create("sk-two").wantError(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
		c.post("/batches", newBatch(file), "Idempotency-Key", "k").wantError(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
		if got := create("sk-one").want(t, http.StatusOK).text("id"); got != id {
			t.Errorf("batch %s, want %s", got, id)
		}
	}
	again()
	s.Work(mock.Settings{})
	c.awaitEnd(id)
	if n := s.count(`SELECT count(*) FROM batch_keys`); n > 0 {
		t.Fatal("the key is still there")
	}
	again()
}

// A batch of which every request failed is completed, as OpenAI has it. To
// cancel a batch twice is no error, to cancel one that is completed is.
func TestStatusesAreOpenAIs(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	file := c.file(requests(3, "m"))
	cancelled := c.batch(file)
	for range 2 {
		if a := c.do(http.MethodPost, "/batches/"+cancelled+"/cancel", "", nil).want(t, http.StatusOK); a.text("status") != "cancelled" {
			t.Errorf("batch %s", a.body)
		}
	}
	s.Work(mock.Settings{Errors: "400=1"})
	id := c.batch(file)
	a := c.awaitEnd(id)
	if a.text("status") != "completed" || a.value("request_counts", "failed") != 3.0 || a.value("failed_at") != nil ||
		a.value("completed_at") == nil || a.value("errors") != nil || a.text("error_file_id") == "" || a.value("output_file_id") != nil {
		t.Errorf("batch %s", a.body)
	}
	a = c.do(http.MethodPost, "/batches/"+id+"/cancel", "", nil).wantError(t, http.StatusConflict, "batch_ended")
	if got := a.text("error", "message"); got != "The batch is already completed." {
		t.Errorf("message %q", got)
	}
}

// What an owner may have in progress is exact, however many ask at once.
func TestAllowance(t *testing.T) {
	t.Parallel()
	s := newService(t, func(cfg *api.Config) { cfg.Allowance.ActiveBatches, cfg.Allowance.QueuedRequests = 5, 20 })
	alice, bob := s.client("alice"), s.client("bob")
	five, three, many := alice.file(requests(5, "m")), alice.file(requests(3, "m")), alice.file(requests(21, "m"))
	answers := make(chan answer, 12)
	for range cap(answers) {
		go func() {
			raw, _ := json.Marshal(newBatch(five))
			a, err := alice.try(http.MethodPost, "/batches", "application/json", strings.NewReader(string(raw)))
			if err != nil {
				t.Error(err)
			}
			answers <- a
		}()
	}
	var made []string
	for range cap(answers) {
		if a := <-answers; a.status == http.StatusOK {
			made = append(made, a.text("id"))
		} else if a.wantError(t, http.StatusTooManyRequests, "over_allowance"); a.header.Get("Retry-After") != "1" {
			t.Errorf("headers %v", a.header)
		}
	}
	if len(made) != 4 {
		t.Fatalf("%d batches of 5 requests were made, want 4: at most 20 requests", len(made))
	}
	alice.post("/batches", newBatch(many)).wantError(t, http.StatusBadRequest, "over_allowance") // waiting is in vain
	bob.batch(bob.file(requests(20, "m")))
	alice.do(http.MethodPost, "/batches/"+made[0]+"/cancel", "", nil).want(t, http.StatusOK)
	alice.batch(three)
	alice.post("/batches", newBatch(three)).wantError(t, http.StatusTooManyRequests, "over_allowance")
}

// Events tell of the counts until the batch has ended.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.Work(mock.Settings{Latency: "30ms"})
	c := s.client("alice")
	id := c.batch(c.file(requests(100, "m")))
	a := c.get("/batches/"+id+"/events").want(t, http.StatusOK)
	if got := a.header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	var names []string
	completed := -1.0
	for scanner := bufio.NewScanner(strings.NewReader(string(a.body))); scanner.Scan(); {
		if name, ok := strings.CutPrefix(scanner.Text(), "event: "); ok {
			names = append(names, name)
		}
		if data, ok := strings.CutPrefix(scanner.Text(), "data: "); ok {
			b := answer{body: []byte(data)}
			next, _ := b.value("request_counts", "completed").(float64)
			if b.text("id") != id || next <= completed {
				t.Errorf("completed %v, then %s", completed, data)
			}
			completed = next
		}
	}
	if len(names) < 2 || names[0] != "batch.in_progress" || names[len(names)-1] != "batch.completed" || completed != 100 {
		t.Errorf("events %v, at last %v completed", names, completed)
	}
}

// What failed is called again, and its batch goes on; a deleted batch is gone.
func TestRetryAndDelete(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.Work(mock.Settings{Errors: "400=0.3"})
	c := s.client("alice")
	const n = 50
	id := c.batch(c.file(requests(n, "m")))
	a := c.awaitEnd(id)
	failed, _ := a.value("request_counts", "failed").(float64)
	if failed == 0 {
		t.Fatalf("nothing failed: %s", a.body)
	}
	rerun := "/batches/" + id + "/rerun"
	c.post(rerun, map[string]any{"statuses": []string{"completed"}}).wantError(t, http.StatusBadRequest, "invalid_value")
	c.post(rerun, map[string]any{"statuses": []string{"expired"}}).wantError(t, http.StatusConflict, "nothing_to_retry")
	if err := s.Endpoint.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	if b := c.do(http.MethodPost, rerun, "", nil).want(t, http.StatusOK); b.value("error_file_id") != nil || b.value("completed_at") != nil && b.text("status") != "completed" {
		t.Errorf("retried batch: %s", b.body)
	}
	if a = c.awaitEnd(id); a.value("request_counts", "completed") != float64(n) || a.value("error_file_id") != nil {
		t.Errorf("batch after the retry: %s", a.body)
	}
	if got := strings.Count(string(c.get("/files/"+a.text("output_file_id")+"/content").body), "\n"); got != n {
		t.Errorf("%d lines of output, want %d", got, n)
	}
	c.do(http.MethodDelete, "/batches/"+id, "", nil).want(t, http.StatusOK)
	for _, path := range []string{"/batches/" + id, "/batches/" + id + "/results", "/files/" + a.text("output_file_id"), "/files/" + a.text("output_file_id") + "/content"} {
		c.get(path).wantError(t, http.StatusNotFound, "not_found")
	}
	if ids := c.get("/batches").ids(); len(ids) > 0 {
		t.Errorf("deleted batches are listed: %v", ids)
	}
}
