package postgres

import (
	"testing"

	"fusillade/internal/batch"
)

// What holds a batch up, and what failed, is known while its requests go on and
// after they have ended.
func TestBatchWorkAndErrors(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d, id := newDaemon(t, s), newBatch(t, s, 20)
	deliveries := started(t, s, d, id, 10)
	var releases []Release
	for _, delivery := range deliveries[:4] {
		releases = append(releases, Release{Delivery: delivery, Retry: true, Due: true, Reason: batch.NotFound, StatusCode: 404, Cause: "no such model"})
	}
	if _, err := s.Finish(t.Context(), d, nil, releases); err != nil {
		t.Fatal(err)
	}
	failed := answered(deliveries[5])
	failed.State, failed.Reason, failed.StatusCode, failed.Cause = batch.Failed, batch.NonRetriableHTTPStatus, 400, "too long"
	finish(t, s, d, answered(deliveries[4]), failed)
	w, err := s.BatchWork(t.Context(), id)
	if err != nil || len(w.Models) != 1 || !w.Processing || w.Failed == nil || w.Failed.Cause != "no such model" || w.Failed.CustomID == "" || w.Failed.StatusCode != 404 {
		t.Errorf("%+v, failed %+v, %v", w, w.Failed, err)
	}
	groups, partial, err := s.BatchErrors(t.Context(), id)
	want := []ErrorGroup{
		{Reason: batch.NotFound, StatusCode: 404, Cause: "no such model", Count: 4, CustomID: "id-1"},
		{Reason: batch.NonRetriableHTTPStatus, StatusCode: 400, Cause: "too long", Ended: true, Count: 1, CustomID: "id-6"},
	}
	if err != nil || partial || len(groups) != 2 || groups[0] != want[0] || groups[1] != want[1] {
		t.Errorf("%+v, %t, %v, want %+v", groups, partial, err, want)
	}
	for model, want := range map[batch.Model]bool{w.Models[0]: true, "other": false} {
		if only, err := s.OnlyModels(t.Context(), id, []batch.Model{model}); only != want || err != nil {
			t.Errorf("only %s: %t, %v", model, only, err)
		}
	}
	if _, err := s.CancelBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	groups, _, err = s.BatchErrors(t.Context(), id)
	if err != nil || len(groups) != 3 || groups[0].Cause != "its last call ended with not_found (status 404): no such model" && groups[1].Cause != "its last call ended with not_found (status 404): no such model" {
		t.Errorf("after a cancel: %+v, %v", groups, err)
	}
}

// What was never claimed when its batch ended has no result of its own, and is counted
// with what has.
func TestBatchErrorsCountWhatWasNeverClaimed(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	for name, c := range map[string]struct {
		end    func(id batch.ID)
		reason batch.Reason
	}{
		"canceled": {func(id batch.ID) {
			if _, err := s.CancelBatch(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}, batch.BatchCancelled},
		"over budget": {func(id batch.ID) {
			sqlExec(t, s, `UPDATE batches SET budget_tokens = 1, budget_exceeded_at = now() WHERE id = $1`, [16]byte(id))
			endOverBudget(t, s)
		}, batch.BudgetExceeded},
		"expired": {func(id batch.ID) {
			sqlExec(t, s, `UPDATE batches SET expires_at = now() - interval '1 h' WHERE id = $1`, [16]byte(id))
			if _, err := s.ExpireBatches(t.Context(), 0, 10); err != nil {
				t.Fatal(err)
			}
		}, batch.BatchExpired},
	} {
		id := newBatch(t, s, 50)
		claimed(t, s, id, 7)
		finish(t, s, d, endings(completed, started(t, s, d, id, 3))...)
		c.end(id)
		groups, partial, err := s.BatchErrors(t.Context(), id)
		b := getBatch(t, s, id)
		if err != nil || partial || len(groups) != 1 || groups[0].Reason != c.reason || groups[0].Count != b.Unsuccessful() || !groups[0].Ended || groups[0].CustomID == "" {
			t.Errorf("%s: %+v, %t, %v, want %d with %s", name, groups, partial, err, b.Unsuccessful(), c.reason)
		}
	}
}

// What these statements read is bounded, however large the batch is.
func TestBatchErrorsAreBounded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := batchOf(t, s, newLargeFile(t, s, 40_000))
	deliveries := started(t, s, d, id, 30_000)
	ended := endings(answered, deliveries[:15_000])
	for i := range ended {
		if i%1000 == 0 {
			ended[i].State, ended[i].Reason = batch.Failed, batch.Timeout
		}
	}
	finish(t, s, d, ended...)
	sqlExec(t, s, `VACUUM ANALYZE`)
	for name, st := range map[string]struct {
		sql  string
		args []any
		most float64 // rows
	}{
		"work":   {batchWorkSQL, []any{[16]byte(id), sampled, modelsSampled}, 10 * sampled},
		"errors": {batchErrorsSQL, []any{[16]byte(id), errorsSampled, maxErrorGroups}, 5 * errorsSampled},
	} {
		plan := explain(t, s, ", ANALYZE, BUFFERS", st.sql, st.args...)
		if scans := plan.wholeScans(); len(scans) > 0 || plan.touched() > st.most {
			t.Errorf("%s: %v, %.0f rows", name, scans, plan.touched())
		}
	}
	groups, partial, err := s.BatchErrors(t.Context(), id)
	if err != nil || len(groups) != 1 || groups[0].Count != 15 || !partial {
		t.Errorf("%+v, %t, %v, want the 15 that failed among the others", groups, partial, err)
	}
}
