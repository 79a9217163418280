package postgres

import (
	"testing"
	"time"

	"fusillade/internal/batch"
)

// Ahead are the owner's batches of the same model that are claimed before: those of a
// higher priority, then those with an earlier deadline.
func TestBatchPlace(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	place := func(id batch.ID) BatchPlace {
		t.Helper()
		p, err := s.BatchPlace(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first, second, third := newBatch(t, s, 10), newBatch(t, s, 20), newBatch(t, s, 5, testModel, otherName)
	for i, id := range []batch.ID{first, second, third} {
		sqlExec(t, s, `UPDATE batches SET expires_at = now() + $2::interval WHERE id = $1`, [16]byte(id), time.Duration(i+1)*time.Hour)
	}
	newBatch(t, s, 100, otherName) // later than the third's other model
	sqlExec(t, s, `UPDATE batches SET expires_at = now() + interval '9 h' WHERE total = 100`)
	for id, ahead := range map[batch.ID]int64{first: 0, second: 10, third: 30} {
		if p := place(id); p != (BatchPlace{Ahead: ahead}) {
			t.Errorf("%+v, want %d ahead", p, ahead)
		}
	}
	finish(t, s, d, endings(completed, started(t, s, d, first, 4))...)
	if p := place(second); p.Ahead != 6 || p.PerSecond <= 0 || p.PerSecond > 4 {
		t.Errorf("%+v, want 6 ahead and a rate", p)
	}
	highest := 100
	if _, err := s.ChangeBatch(t.Context(), third, BatchChange{Priority: &highest}); err != nil {
		t.Fatal(err)
	}
	if p := place(third); p.Ahead != 0 {
		t.Errorf("%+v of the highest priority", p)
	}
	if p := place(second); p.Ahead != 6+3 {
		t.Errorf("%+v, want the third's of the model too", p)
	}
}

// However many batches and results there are, what it reads is bounded.
func TestBatchPlaceIsBounded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 10, testModel))
	var last batch.ID
	for range 3000 {
		last = batchOf(t, s, file)
	}
	long := batchOf(t, s, newLargeFile(t, s, 20_000))
	finish(t, s, d, endings(answered, started(t, s, d, long, 10_000))...)
	sqlExec(t, s, `UPDATE batches SET expires_at = now() + interval '1 h' WHERE id = $1`, [16]byte(long))
	sqlExec(t, s, `UPDATE batches SET expires_at = now() + interval '99 h' WHERE id = $1`, [16]byte(last))
	sqlExec(t, s, `VACUUM ANALYZE`)
	plan := explain(t, s, ", ANALYZE, BUFFERS", batchPlaceSQL, [16]byte(last), placeModels, placeBatches, placeRates, placeResults, placeSeconds)
	if scans := plan.wholeScans(); len(scans) > 0 || plan.touched() > 10*placeBatches {
		t.Errorf("%v, %.0f rows", scans, plan.touched())
	}
	// The first to be claimed is found, with its rate.
	if p, err := s.BatchPlace(t.Context(), last); err != nil || p.Ahead != 10_000+(placeBatches-1)*10 || p.PerSecond <= 0 {
		t.Errorf("%+v, %v", p, err)
	}
}
