package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/client"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testapi"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// between stands between client and server.
type between func(w http.ResponseWriter, r *http.Request, next http.Handler)

// newClient is a client of a real server, with something between them; nil:
// nothing.
func newClient(t *testing.T, meddle between) *client.Client {
	t.Helper()
	handler := testapi.New(t, nil).NewAPI()
	if meddle == nil {
		meddle = func(w http.ResponseWriter, r *http.Request, next http.Handler) { next.ServeHTTP(w, r) }
	}
	return clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { meddle(w, r, handler) }))
}

func clientOf(t *testing.T, handler http.Handler) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := client.New(client.Config{URL: server.URL, IdleTimeout: time.Minute, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"custom_id":"r%d","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"%s"}}`+"\n", i, strings.Repeat("x", i%900))
	}
	return b.String()
}

func upload(t *testing.T, c *client.Client, content string) client.File {
	t.Helper()
	f, err := c.Upload(t.Context(), client.NewFile{Name: "in.jsonl", Content: strings.NewReader(content), Size: int64(len(content))})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func begin(t *testing.T, c *client.Client, file string) client.Batch {
	t.Helper()
	b, err := c.CreateBatch(t.Context(), client.NewBatch{InputFileID: file, Endpoint: "/v1/embeddings", CompletionWindow: "24h"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFilesAndLists(t *testing.T) {
	t.Parallel()
	c := newClient(t, nil)
	piped, err := c.Upload(t.Context(), client.NewFile{
		Name: `na"me.jsonl`, Content: io.MultiReader(strings.NewReader(lines(3))), Size: -1, ExpiresAfter: time.Hour,
	})
	if err != nil || piped.Filename != `na"me.jsonl` || piped.ExpiresAt != piped.CreatedAt+3600 || piped.Bytes != int64(len(lines(3))) {
		t.Errorf("uploaded %s, %v", piped.JSON, err)
	}
	if endpoint, err := c.Endpoint(t.Context(), piped.ID); err != nil || endpoint != "/v1/embeddings" {
		t.Errorf("endpoint %q, %v", endpoint, err)
	}
	if got, err := c.File(t.Context(), piped.ID); err != nil || !bytes.Equal(got.JSON, piped.JSON) {
		t.Errorf("file %s, %v; want %s", got.JSON, err, piped.JSON)
	}
	const n = 205 // more than two pages
	var want []string
	for range n {
		want = append(want, begin(t, c, piped.ID).ID)
	}
	slices.Reverse(want)
	for _, limit := range []int{0, 1, 99, 100, 101, 204, 205, 300} {
		var got []string
		for b, err := range c.Batches(t.Context(), limit) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b.ID)
		}
		end := min(limit, n)
		if limit == 0 {
			end = n
		}
		if !slices.Equal(got, want[:end]) {
			t.Errorf("limit %d: %d batches, or others", limit, len(got))
		}
	}
	live := 0
	for b, err := range c.Batches(t.Context(), 0, "in_progress", "expired") {
		if err != nil || b.Status != "in_progress" {
			t.Fatalf("a batch in progress: %v, %v", b.Status, err)
		}
		live++
	}
	for b, err := range c.Batches(t.Context(), 0, "cancelled", "completed") {
		t.Errorf("%q is listed as ended, %v", b.ID, err)
	}
	if live != n {
		t.Errorf("%d batches in progress, want %d", live, n)
	}
	for _, err := range c.Batches(t.Context(), 0, "done") {
		if !client.Refused(err) {
			t.Errorf("an unknown status: %v", err)
		}
	}
	if err := c.DeleteFile(t.Context(), piped.ID); err != nil {
		t.Fatal(err)
	}
	_, err = c.File(t.Context(), piped.ID)
	if !client.HasStatus(err, http.StatusNotFound) || !client.Refused(err) {
		t.Errorf("a deleted file: %v", err)
	}
}

// cutting breaks the connection after some bytes of a body.
type cutting struct {
	http.ResponseWriter
	left int
}

func (w *cutting) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		_, _ = w.ResponseWriter.Write(p[:len(p)+w.left])
		_ = http.NewResponseController(w.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return w.ResponseWriter.Write(p)
}

func (w *cutting) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A download that breaks, anywhere and again and again, comes out whole.
func TestContentGoesOn(t *testing.T) {
	t.Parallel()
	var broken atomic.Int64
	c := newClient(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/content") {
			n := broken.Add(1)
			if n%7 == 0 {
				http.Error(w, "a proxy's error", http.StatusBadGateway)
				return
			}
			w = &cutting{w, int(n * 6007 % 50_000)}
		}
		next.ServeHTTP(w, r)
	})
	content := lines(1000)
	f := upload(t, c, content)
	var got bytes.Buffer
	at, err := c.Content(t.Context(), f.ID, 0, &got)
	if err != nil || at.Next != 1000 || at.Incomplete || got.String() != content {
		t.Errorf("%d lines and %d bytes, want %d: %v", at.Next, got.Len(), len(content), err)
	}
	if broken.Load() < 5 {
		t.Errorf("only %d attempts", broken.Load())
	}
}

// A download that gains nothing any more ends with an error that says where.
func TestContentGivesUp(t *testing.T) {
	t.Parallel()
	var attempts atomic.Int64
	c := newClient(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/content") {
			if attempts.Add(1); r.URL.Query().Get("offset") != "0" {
				panic(http.ErrAbortHandler)
			}
			w = &cutting{w, 5000}
		}
		next.ServeHTTP(w, r)
	})
	f := upload(t, c, lines(100))
	at, err := c.Content(t.Context(), f.ID, 0, io.Discard)
	if err == nil || at.Next == 0 || !strings.Contains(err.Error(), fmt.Sprintf("line %d", at.Next+1)) {
		t.Errorf("%+v, %v", at, err)
	}
	before := attempts.Load()
	if _, err := c.Content(t.Context(), f.ID, 0, failing{}); !errors.Is(err, errDisk) || attempts.Load() != before+1 {
		t.Errorf("a writer that fails: %v after %d attempts", err, attempts.Load()-before)
	}
	if _, err := c.Content(t.Context(), "file-1", 0, io.Discard); !client.HasStatus(err, http.StatusNotFound) {
		t.Errorf("an unknown file: %v", err)
	}
}

var errDisk = errors.New("disk is full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errDisk }

// breaking passes on one write and breaks the connection.
type breaking struct{ http.ResponseWriter }

func (w breaking) Write(p []byte) (int, error) {
	_, _ = w.ResponseWriter.Write(p)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

func (w breaking) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A stream of events that breaks is taken up again, until the batch has ended.
func TestWatchGoesOn(t *testing.T) {
	t.Parallel()
	var streams atomic.Int64
	c := newClient(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		// net/http would itself repeat a request that breaks on a connection that
		// was used before.
		w.Header().Set("Connection", "close")
		if strings.HasSuffix(r.URL.Path, "/events") {
			switch streams.Add(1) {
			case 1:
				w = breaking{w} // after an event
			case 2:
				http.Error(w, "starting", http.StatusServiceUnavailable)
				return
			case 3:
				panic(http.ErrAbortHandler)
			case 4:
				w = &cutting{w, 100} // within an event
			}
		}
		next.ServeHTTP(w, r)
	})
	id := begin(t, c, upload(t, c, lines(3)).ID).ID
	watching, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var seen []string
	troubles := 0
	last, err := c.Watch(watching, id, func(b client.Batch) {
		if seen = append(seen, b.Status); len(seen) == 2 {
			if _, err := c.CancelBatch(watching, id); err != nil {
				t.Error(err)
			}
		}
	}, func(err error) {
		if troubles++; err == nil {
			t.Error("trouble without a reason")
		}
	})
	if err != nil || last.Status != "cancelled" {
		t.Fatalf("ended as %s, %v", last.JSON, err)
	}
	if want := []string{"in_progress", "in_progress", "cancelled"}; !slices.Equal(seen, want) || troubles != 4 {
		t.Errorf("%d troubles and the events %v, want 4 and %v", troubles, seen, want)
	}
}

// A server that says at first that it cannot reach its database is asked again.
func TestWatchBeginsInAnOutage(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c := newClient(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, "/events") && asked.Add(1) <= 20 {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	id := begin(t, c, upload(t, c, lines(3)).ID).ID
	troubles := 0
	last, err := c.Watch(t.Context(), id, func(client.Batch) {
		if _, err := c.CancelBatch(t.Context(), id); err != nil {
			t.Error(err)
		}
	}, func(error) { troubles++ })
	if err != nil || !last.Ended() || troubles == 0 {
		t.Errorf("ended as %s after %d troubles, %v", last.JSON, troubles, err)
	}
}

// What cannot be watched from the beginning is an error at once, and so is a
// batch that is gone.
func TestWatchRefused(t *testing.T) {
	t.Parallel()
	var c *client.Client
	var id string
	c = newClient(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, id+"/events") && id != "" {
			w = breaking{w}
		}
		next.ServeHTTP(w, r)
	})
	never := func(error) { t.Error("tried again") }
	if _, err := c.Watch(t.Context(), "batch_1", func(client.Batch) {}, never); !client.HasStatus(err, http.StatusNotFound) {
		t.Errorf("an unknown batch: %v", err)
	}
	gone := clientOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	if _, err := gone.Watch(t.Context(), "batch_1", func(client.Batch) {}, never); err == nil {
		t.Error("a server that is away was watched")
	}
	id = begin(t, c, upload(t, c, lines(3)).ID).ID
	_, err := c.Watch(t.Context(), id, func(client.Batch) {
		if err := c.DeleteBatch(t.Context(), id); err != nil {
			t.Error(err)
		}
	}, func(error) {})
	if !client.HasStatus(err, http.StatusNotFound) {
		t.Errorf("a batch that was deleted: %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	answer, status := "", 0
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req_1")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	for _, tt := range []struct {
		status       int
		answer, want string
		refused      bool
	}{
		{400, `{"error":{"message":"Bad.","type":"t","param":"p","code":"c"}}`, "Bad.", true},
		{500, `{"error":{"message":"Ours.","type":"t","param":null,"code":null}}`, "Ours. (500, request req_1)", false},
		{429, `{"error":{"message":"Wait."}}`, "Wait.", false},
		{502, `<html>`, "the server answered with status 502 Bad Gateway (502, request req_1)", false},
		{307, ``, "the server answered with status 307 Temporary Redirect", true},
		{200, `<html>`, "not JSON", false},
	} {
		status, answer = tt.status, tt.answer
		_, err := c.Batch(t.Context(), "batch_1")
		if err == nil || !strings.Contains(err.Error(), tt.want) || client.Refused(err) != tt.refused {
			t.Errorf("%d %s: %v, refused %v", tt.status, tt.answer, err, client.Refused(err))
		}
	}
	for _, bad := range []string{"", "127.0.0.1:8080", "ftp://x", "http://", "://"} {
		if _, err := client.New(client.Config{URL: bad}); err == nil {
			t.Errorf("%q is taken for a URL", bad)
		}
	}
}

// A server that says nothing is left after a while.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	c, err := client.New(client.Config{URL: server.URL, IdleTimeout: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Batch(t.Context(), "batch_1"); err == nil || !strings.Contains(err.Error(), "did nothing") {
		t.Errorf("error %v", err)
	}
}

// A batch is asked for again under the same key when the answer is lost or the
// server fails, and not when it refuses.
func TestCreateBatchAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fail  func(http.ResponseWriter)
		calls int
	}{
		"lost":     {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 3},
		"restarts": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, 3},
		"refused":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) }, 1},
		"too much": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var keys, bodies []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				keys, bodies = append(keys, r.Header.Get("Idempotency-Key")), append(bodies, string(body))
				n := len(keys)
				mu.Unlock()
				if n < 3 {
					tt.fail(w)
					return
				}
				_, _ = io.WriteString(w, `{"id":"batch_1"}`)
			}))
			defer server.Close()
			c, err := client.New(client.Config{URL: server.URL, Pause: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			b, err := c.CreateBatch(t.Context(), client.NewBatch{InputFileID: "file-1"})
			if (err == nil) != (tt.calls == 3) || err == nil && b.ID != "batch_1" {
				t.Errorf("%+v, %v", b, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(keys) != tt.calls {
				t.Fatalf("%d calls, want %d", len(keys), tt.calls)
			}
			for i := range keys {
				if keys[i] == "" || keys[i] != keys[0] || bodies[i] != bodies[0] {
					t.Errorf("call %d had the key %q and %s", i+1, keys[i], bodies[i])
				}
			}
		})
	}
}

// A batch that waits says how much is ahead of it.
func TestWaitingInWords(t *testing.T) {
	t.Parallel()
	for want, w := range map[string]client.Waiting{
		"It waits.": {Message: "It waits."},
		"It waits. 7 requests are ahead of them. Do it.":           {Message: "It waits.", Action: "Do it.", RequestsAhead: 7},
		"It waits. 7 requests are ahead of them, for about 1m30s.": {Message: "It waits.", RequestsAhead: 7, EstimatedSeconds: 90},
	} {
		if got := w.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Where few batches fit a filter, the server answers with pages that have none.
func TestListGoesOnBehindEmptyPages(t *testing.T) {
	var asked []string
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("status")+" after "+r.URL.Query().Get("after"))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, []string{
			`{"data":[],"last_id":"a","has_more":true}`, `{"data":[{"id":"x"}],"last_id":"b","has_more":true}`, `{"data":[{"id":"y"}],"last_id":"b","has_more":true}`,
		}[len(asked)-1])
	}))
	var got []string
	for b, err := range c.Batches(t.Context(), 0, "expired", "failed") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.ID)
	}
	// The last page does not say where to go on.
	if want := []string{"expired,failed after ", "expired,failed after a", "expired,failed after b"}; !slices.Equal(asked, want) || !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("asked for %q and got %q", asked, got)
	}
}
