package consume

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/upstream"
)

// Refusals of a model count until a call to it ends in another way; one that was
// cut off, or of another model, says nothing.
func TestRefusalsInARow(t *testing.T) {
	t.Parallel()
	var r refusals
	began := time.Now()
	refused := func(status int) *upstream.Outcome {
		return &upstream.Outcome{Reason: batch.RetriableHTTPStatus, Refusal: &upstream.Refusal{Status: status}}
	}
	r.add("a", &upstream.Outcome{}, false, began)
	r.add("a", refused(404), false, began.Add(1))
	r.add("b", &upstream.Outcome{}, false, began.Add(2))
	r.add("a", &upstream.Outcome{Reason: batch.TaskTerminated}, false, began.Add(3))
	r.add("b", refused(403), false, began.Add(4))
	r.add("a", refused(401), true, began.Add(5))
	want := Refusal{Refusal: upstream.Refusal{Status: 401}, Model: "a", Since: began.Add(1), Calls: 2, Failed: 1}
	if got := r.list(); len(got) != 2 || got[0] != want || got[1].Model != "b" {
		t.Errorf("%+v, want %+v first of 2", got, want)
	}
	r.add("b", &upstream.Outcome{}, false, began)
	for _, other := range []*upstream.Outcome{{}, {Reason: batch.RetriableHTTPStatus}, {Reason: batch.Timeout}} {
		r.add("a", refused(404), false, began)
		r.add("a", other, false, began)
		if r.any.Load() || len(r.list()) != 0 {
			t.Errorf("after %q: %+v", other.Reason, r.list())
		}
	}
}
