package consume

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/upstream"
)

// Refusals count until a call ends in another way; one that was cut off says
// nothing.
func TestRefusalsInARow(t *testing.T) {
	t.Parallel()
	var r refusals
	began := time.Now()
	refused := func(status int) *upstream.Outcome {
		return &upstream.Outcome{Reason: batch.RetriableHTTPStatus, Refusal: &upstream.Refusal{Status: status}}
	}
	r.add("a", &upstream.Outcome{}, false, began)
	r.add("a", refused(404), false, began.Add(1))
	r.add("b", &upstream.Outcome{Reason: batch.TaskTerminated}, false, began.Add(2))
	r.add("b", refused(401), true, began.Add(3))
	want := Refusal{Refusal: upstream.Refusal{Status: 401}, Model: "b", Since: began.Add(1), Calls: 2, Failed: 1}
	if r.last != want || len(r.models) != 2 {
		t.Errorf("%+v of %d models, want %+v of 2", r.last, len(r.models), want)
	}
	for _, other := range []*upstream.Outcome{{}, {Reason: batch.RetriableHTTPStatus}, {Reason: batch.Timeout}} {
		r.add("a", refused(404), false, began)
		r.add("a", other, false, began)
		if r.any.Load() || r.last != (Refusal{}) || r.models != nil {
			t.Errorf("after %q: %+v", other.Reason, r.last)
		}
	}
}
