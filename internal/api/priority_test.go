package api_test

import (
	"net/http"
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
