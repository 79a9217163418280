package postgres

import (
	"errors"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

// conclude gives a request its result.
func (w *world) conclude(id batch.RequestID, as batch.State) {
	claim := 0
	if r := w.requests[id]; r != nil {
		claim = r.Claim
	}
	w.requests[id] = &request{State: as, Claim: claim}
	w.ended[id.Batch]++
}

// live are the lines of a batch whose requests are live.
func (w *world) live(id batch.ID) (out []batch.RequestID) {
	for line := range int32(w.size) {
		key := batch.RequestID{Batch: id, Line: line + 1}
		if r := w.requests[key]; r != nil && !r.State.Terminal() {
			out = append(out, key)
		}
	}
	return out
}

// over reports whether every request of the batch has ended.
func (w *world) over(id batch.ID) bool { return len(w.live(id)) == 0 && len(w.pending(id)) == 0 }

// skip closes the cursor.
func (w *world) skip(id batch.ID, as batch.State) {
	if len(w.pending(id)) > 0 {
		w.skipped[id] = as
		w.ended[id]++ // something has changed in the output
	}
}

func (w *world) cancel(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "rarely") > 0 {
		t.Skip("a cancelled batch has no more adventures")
	}
	id := pick(t, w.batches, "batch")
	over := w.over(id)
	b, err := w.s.CancelBatch(t.Context(), id)
	if over {
		if !errors.Is(err, batch.ErrBatchFinished) {
			t.Fatalf("cancel of a batch that has ended: %v", err)
		}
		return
	}
	if must(t, b, err).Status != batch.StatusCancelled || b.Counts.Done() != int64(w.size) || b.CancellingAt.IsZero() {
		t.Fatalf("cancelled: %+v", b)
	}
	for _, key := range w.live(id) {
		w.conclude(key, batch.Canceled)
	}
	w.skip(id, batch.Canceled)
}

func (w *world) expire(t *rapid.T) {
	id := pick(t, w.batches, "batch")
	w.sql(t, `UPDATE batches SET expires_at = now() - interval '1 s' WHERE id = $1`, [16]byte(id))
	got, err := w.s.ExpireBatches(t.Context(), 0, 10)
	must(t, got, err)
	want := 0
	for _, key := range w.live(id) {
		if w.requests[key].State != batch.Processing {
			w.conclude(key, batch.Expired)
			want++
		}
	}
	want += len(w.pending(id))
	w.skip(id, batch.Expired)
	var expired EndedBatch
	if want > 0 {
		expired = EndedBatch{Batch: id, Requests: want, Finished: w.over(id)}
	}
	i := slices.IndexFunc(got, func(e EndedBatch) bool { return e.Batch == id })
	if i >= 0 != (want > 0) || i >= 0 && got[i] != expired {
		t.Fatalf("expired %+v, want %+v", got, expired)
	}
	// Time goes back, so that nothing else expires by itself.
	w.sql(t, `UPDATE batches SET expires_at = now() + interval '1 day' WHERE id = $1`, [16]byte(id))
}

func (w *world) drawLines(t *rapid.T) []int32 {
	return rapid.SliceOfNDistinct(rapid.Int32Range(1, int32(w.size)), 1, 4, rapid.ID).Draw(t, "lines")
}

// sorted says what is expected of an operation on single requests.
func sorted(lines []int32, change func(int32) bool) (want Lines) {
	lines = slices.Sorted(slices.Values(lines))
	for _, line := range lines {
		if change(line) {
			want.Changed = append(want.Changed, line)
		} else {
			want.Unchanged = append(want.Unchanged, line)
		}
	}
	return want
}

func (w *world) cancelLines(t *rapid.T) {
	id := pick(t, w.batches, "batch")
	lines := w.drawLines(t)
	got, err := w.s.CancelRequests(t.Context(), id, lines)
	must(t, got, err)
	pending := w.pending(id)
	want := sorted(lines, func(line int32) bool {
		key := batch.RequestID{Batch: id, Line: line}
		r := w.requests[key]
		if r == nil && !slices.Contains(pending, line) || r != nil && r.State.Terminal() {
			return false
		}
		w.conclude(key, batch.Canceled)
		return true
	})
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("cancelled (-want +got):\n%s", diff)
	}
}

// makeDue makes a request that has ended due.
func (w *world) makeDue(key batch.RequestID) {
	claim := 1
	if r := w.requests[key]; r != nil {
		claim = max(r.Claim, 1)
	}
	w.requests[key] = &request{State: batch.Pending, Claim: claim, Due: true}
	w.ended[key.Batch]++
}

func (w *world) retry(t *rapid.T) {
	id := pick(t, w.batches, "batch")
	states := rapid.SliceOfNDistinct(rapid.SampledFrom([]batch.State{batch.Failed, batch.Canceled, batch.Expired}), 1, 3, rapid.ID).Draw(t, "states")
	got, err := w.s.RerunRequests(t.Context(), id, batch.Allowance{}, states...)
	must(t, got, err)
	want := 0
	if slices.Contains(states, w.skipped[id]) {
		want += len(w.beyond(id))
		delete(w.skipped, id)
		w.ended[id]++
	}
	for line := range int32(w.size) {
		key := batch.RequestID{Batch: id, Line: line + 1}
		if r := w.requests[key]; r != nil && slices.Contains(states, r.State) {
			w.makeDue(key)
			want++
		}
	}
	if got != want {
		t.Fatalf("%d retried, want %d", got, want)
	}
}

func (w *world) retryLines(t *rapid.T) {
	id := pick(t, w.batches, "batch")
	lines := w.drawLines(t)
	got, err := w.s.RerunLines(t.Context(), id, batch.Allowance{}, lines)
	must(t, got, err)
	want := sorted(lines, func(line int32) bool {
		key := batch.RequestID{Batch: id, Line: line}
		r := w.requests[key]
		state := w.skipped[id]
		if r != nil {
			state = r.State
		}
		if !slices.Contains([]batch.State{batch.Failed, batch.Canceled, batch.Expired}, state) {
			return false
		}
		w.makeDue(key)
		return true
	})
	if len(w.beyond(id)) == 0 {
		delete(w.skipped, id)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("retried (-want +got):\n%s", diff)
	}
}

// checkCounts compares what users see with the model: the counts, and the
// output, which holds every request that has ended, once.
func (w *world) checkCounts(t *rapid.T, id batch.ID) {
	want := batch.Counts{Total: int64(w.size), Pending: int64(len(w.pending(id))), InProgress: int64(len(w.live(id)))}
	count := map[batch.State]*int64{
		batch.Completed: &want.Completed, batch.Failed: &want.Failed, batch.Canceled: &want.Canceled, batch.Expired: &want.Expired,
	}
	states := make(map[int32]batch.State)
	for line := range int32(w.size) {
		key := batch.RequestID{Batch: id, Line: line + 1}
		switch r := w.requests[key]; {
		case r == nil && key.Line > int32(w.lines[id]) && w.skipped[id] != "":
			states[key.Line] = w.skipped[id]
		case r != nil && r.State.Terminal():
			states[key.Line] = r.State
		}
	}
	for _, state := range states {
		*count[state]++
	}
	b, err := w.s.GetBatch(t.Context(), id, nil)
	if diff := cmp.Diff(want, must(t, b, err).Counts); diff != "" {
		t.Fatalf("counts (-want +got):\n%s", diff)
	}
	got := make(map[int32]batch.State)
	next := int64(0)
	for {
		page, err := w.s.Results(t.Context(), id, next, rapid.IntRange(1, w.size).Draw(t, "page"))
		if len(must(t, page, err)) == 0 {
			break
		}
		for _, r := range page {
			if r.Seq < next || got[r.ID.Line] != "" {
				t.Fatalf("line %d at seq %d after seq %d", r.ID.Line, r.Seq, next-1)
			}
			next, got[r.ID.Line] = r.Seq+1, r.State
		}
	}
	if diff := cmp.Diff(states, got); diff != "" {
		t.Fatalf("output (-want +got):\n%s", diff)
	}
}
