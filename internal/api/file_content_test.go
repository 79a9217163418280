package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fusillade/internal/mock"
)

// An input file comes back line by line, its bodies byte for byte, from
// wherever it is read.
func TestInputContent(t *testing.T) {
	t.Parallel()
	c := newService(t, nil).client("alice")
	var content, want []string
	for i := range 25 {
		body := fmt.Sprintf(`{ "model":"m\u002f%d",  "n": 1.50e+3, "text":"<&> é \u00e9 \/", "deep":{"z":1,"a":[ ]} }`, i)
		id := fmt.Sprintf(`"é \"%d\""`, i)
		content = append(content, fmt.Sprintf(`{"body":%s ,"url":"/v1/embeddings", "custom_id":%s,"other":true}`, body, id))
		want = append(want, fmt.Sprintf(`{"custom_id":%s,"method":"POST","url":"/v1/embeddings","body":%s}`+"\n", id, body))
	}
	file := c.file(strings.Join(content, "\r\n\n"))
	all := c.get("/files/"+file+"/content").want(t, http.StatusOK)
	if got := string(all.body); got != strings.Join(want, "") {
		t.Errorf("content:\n%s\nwant:\n%s", got, strings.Join(want, ""))
	}
	for _, offset := range []int{0, 1, 24, 25, 26, 1000} {
		for _, limit := range []int{1, 7, 25, 26} {
			a := c.get(fmt.Sprintf("/files/%s/content?offset=%d&limit=%d", file, offset, limit)).want(t, http.StatusOK)
			from, to := min(offset, 25), min(offset+limit, 25)
			if got := string(a.body); got != strings.Join(want[from:to], "") {
				t.Errorf("offset %d, limit %d: %s", offset, limit, got)
			}
			if got, last := a.header.Get("X-Last-Line"), strconv.Itoa(max(offset, to)); got != last {
				t.Errorf("offset %d, limit %d: X-Last-Line %s, want %s", offset, limit, got, last)
			}
			if got := a.header.Get("X-Incomplete"); got != strconv.FormatBool(to < 25) {
				t.Errorf("offset %d, limit %d: X-Incomplete %s", offset, limit, got)
			}
		}
	}
	if a := c.do(http.MethodHead, "/files/"+file+"/content", "", nil); a.status != http.StatusOK || a.header.Get("X-Last-Line") != "25" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	for _, query := range []string{"offset=-1", "offset=x", "limit=0", "limit=99999999999", "skip=1", "limit=1&limit=2"} {
		c.get("/files/"+file+"/content?"+query).wantError(t, http.StatusBadRequest, "")
	}
}

// A reader that goes on from X-Last-Line while the batch runs gets every line
// once, in the same order as one who reads at the end.
func TestContentWhileTheBatchRuns(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.Work(mock.Settings{Latency: "uniform:1ms-20ms", Errors: "400=0.3"})
	c := s.client("alice")
	id := c.batch(c.file(requests(400, "m")))
	digits := strings.TrimPrefix(id, "batch_")
	read := map[string]*bytes.Buffer{"file-output-" + digits: {}, "file-error-" + digits: {}}
	for file, got := range read {
		offset, incomplete := "0", true
		until(t, "the file is complete", func() bool {
			a := c.get("/files/"+file+"/content?limit=50&offset="+offset).want(t, http.StatusOK)
			got.Write(a.body)
			before, _ := strconv.Atoi(offset)
			offset, incomplete = a.header.Get("X-Last-Line"), a.header.Get("X-Incomplete") == "true"
			if after, _ := strconv.Atoi(offset); after-before != bytes.Count(a.body, []byte("\n")) {
				t.Errorf("offset %d to %d with %d lines", before, after, bytes.Count(a.body, []byte("\n")))
			}
			return !incomplete
		})
	}
	c.awaitEnd(id)
	lines := 0
	for file, got := range read {
		whole := c.get("/files/"+file+"/content").want(t, http.StatusOK)
		if !bytes.Equal(whole.body, got.Bytes()) {
			t.Errorf("%s: %d bytes in parts, %d at once", file, got.Len(), len(whole.body))
		}
		lines += bytes.Count(whole.body, []byte("\n"))
	}
	if lines != 400 {
		t.Errorf("%d lines, want 400", lines)
	}
}

// The error file of a cancelled batch holds what had failed, what was in flight
// and what was never claimed, and can be read from anywhere.
func TestErrorFileOfCancelledBatch(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	const n = 3000
	id := c.batch(c.file(requests(n, "m")))
	cancelled := c.do(http.MethodPost, "/batches/"+id+"/cancel", "", nil).want(t, http.StatusOK)
	file := cancelled.text("error_file_id")
	whole := slices.Collect(bytes.Lines(c.get("/files/"+file+"/content").want(t, http.StatusOK).body))
	if len(whole) != n {
		t.Fatalf("%d lines, want %d", len(whole), n)
	}
	for _, offset := range []int{1, 999, 1000, 1001, 2500, n - 1, n, n + 1} {
		got := slices.Collect(bytes.Lines(c.get(fmt.Sprintf("/files/%s/content?offset=%d", file, offset)).want(t, http.StatusOK).body))
		if !slices.EqualFunc(got, whole[min(offset, n):], bytes.Equal) {
			t.Errorf("offset %d: %d lines, want the last %d", offset, len(got), max(n-offset, 0))
		}
	}
	c.get("/files/file-output-"+strings.TrimPrefix(id, "batch_")).wantError(t, http.StatusNotFound, "not_found")
}

// Results merge each request with its outcome, in the order of the file.
func TestResults(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.Work(mock.Settings{Errors: "400=0.2"})
	c := s.client("alice")
	const n = 1500
	file := c.file(requests(n, "m"))
	id := c.batch(file)
	c.awaitEnd(id)

	type object struct {
		ID, Status string
		Line       int
		Request    struct{ Body struct{ Model string } }
		Response   *struct {
			StatusCode int `json:"status_code"`
		}
		Error *struct{ Code string }
	}
	walk := func(query string) (out []object) {
		after := ""
		for {
			a := c.get("/batches/"+id+"/results?"+query+after).want(t, http.StatusOK)
			var page struct {
				Object  string
				Data    []json.RawMessage
				LastID  string `json:"last_id"`
				HasMore bool   `json:"has_more"`
			}
			if err := json.Unmarshal(a.body, &page); err != nil || page.Object != "list" {
				t.Fatalf("%v: %.200s", err, a.body)
			}
			for _, raw := range page.Data {
				var o object
				if err := json.Unmarshal(raw, &o); err != nil {
					t.Fatal(err)
				}
				out = append(out, o)
			}
			if !page.HasMore {
				return out
			}
			after = "&after=" + page.LastID
		}
	}
	all := walk("limit=599")
	if len(all) != n {
		t.Fatalf("%d results, want %d", len(all), n)
	}
	failed := 0
	for i, o := range all {
		ok := o.Status == "completed" && o.Error == nil && o.Response.StatusCode == 200
		bad := o.Status == "failed" && o.Error != nil && o.Response.StatusCode == 400
		if o.Line != i+1 || !ok && !bad || o.Request.Body.Model != "m" {
			t.Fatalf("result %d: %+v", i, o)
		}
		if bad {
			failed++
		}
	}
	if got := len(walk("limit=100&status=failed")); got != failed || failed == 0 {
		t.Errorf("%d failed, want %d", got, failed)
	}
	if got := walk("custom_id=r1498"); len(got) != 1 || got[0].Line != 1499 {
		t.Errorf("search by custom id: %+v", got)
	}
	for query, want := range map[string]int{"custom_id=nobody": 0, "status=pending": 0, "limit=1&custom_id=r0": 1, "limit=1500": n, "limit=10000": n} {
		if got := len(walk(query)); got != want {
			t.Errorf("%s: %d results, want %d", query, got, want)
		}
	}
	for _, query := range []string{"status=odd", "limit=0", "limit=10001", "after=x", "after=batch_req_" + strings.Repeat("0", 39) + "1", "colour=red"} {
		c.get("/batches/"+id+"/results?"+query).wantError(t, http.StatusBadRequest, "")
	}

	waiting := &client{s, s.Key("bob", false)}
	id = waiting.batch(waiting.file(requests(3, "m")))
	waiting.do(http.MethodPost, "/batches/"+id+"/cancel", "", nil)
	c = waiting
	for _, o := range walk("") {
		if o.Status != "canceled" && o.Status != "completed" && o.Status != "failed" || o.Status == "canceled" && o.Error.Code != "batch_cancelled" {
			t.Errorf("result of a cancelled batch: %+v", o)
		}
	}
}
