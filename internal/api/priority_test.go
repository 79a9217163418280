package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// A priority comes from its field, or from the metadata for clients that know no
// such field; the two must agree.
func TestPriority(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	file := c.file(requests(1, "m"))
	for name, tt := range map[string]struct {
		field    any
		metadata map[string]string
		want     float64
		refused  bool
	}{
		"none":         {nil, nil, 0, false},
		"a field":      {-100, nil, -100, false},
		"metadata":     {nil, map[string]string{"fusillade-priority": "100", "priority": "high"}, 100, false},
		"both":         {7, map[string]string{"fusillade-priority": "7"}, 7, false},
		"both, unlike": {7, map[string]string{"fusillade-priority": "8"}, 0, true},
		"too high":     {nil, map[string]string{"fusillade-priority": "101"}, 0, true},
		"no number":    {nil, map[string]string{"fusillade-priority": ""}, 0, true},
	} {
		body := newBatch(file)
		body["priority"], body["metadata"] = tt.field, tt.metadata
		if tt.metadata == nil {
			delete(body, "metadata")
		}
		a := c.post("/batches", body)
		switch {
		case tt.refused:
			a.wantError(t, http.StatusBadRequest, "invalid_value")
		case a.want(t, http.StatusOK).value("priority") != tt.want:
			t.Errorf("%s: the priority is %v, want %v", name, a.value("priority"), tt.want)
		}
	}
}

// A priority can be changed until the batch has ended, and claims go by it.
func TestPriorityIsChanged(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	c := s.client("alice")
	id := c.batch(c.file(requests(1, "m")))
	change := func(c *client, body string) answer {
		t.Helper()
		return c.do(http.MethodPatch, "/batches/"+id, "application/json", strings.NewReader(body))
	}
	for _, want := range []string{"7", "-100", "0"} {
		if a := change(c, `{"priority":`+want+`}`).want(t, http.StatusOK); fmt.Sprint(a.value("priority")) != want {
			t.Errorf("batch %s, want priority %s", a.body, want)
		}
		if n := s.count(`SELECT count(*) FROM cursors c JOIN batches b ON b.id = c.batch_id WHERE c.priority = b.priority AND b.priority = ` + want); n != 1 {
			t.Errorf("%d cursors have priority %s", n, want)
		}
	}
	for _, body := range []string{`{"priority":101}`, `{"priority":null}`, `{}`, `{"priority":1.5}`, `{"priority":1,"status":"completed"}`} {
		change(c, body).wantError(t, http.StatusBadRequest, "")
	}
	change(s.client("bob"), `{"priority":1}`).wantError(t, http.StatusNotFound, "")
	c.do(http.MethodPost, "/batches/"+id+"/cancel", "", nil).want(t, http.StatusOK)
	change(c, `{"priority":1}`).wantError(t, http.StatusConflict, "batch_ended")
}
