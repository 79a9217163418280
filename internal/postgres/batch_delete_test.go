package postgres

import (
	"sync"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

func TestDeleteBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 10, testModel))
	n := NewBatch{File: file, CompletionWindow: time.Hour, CreatedBy: creator, IdempotencyKey: "key"}
	id, _, err := s.CreateBatch(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	deliveries := started(t, s, d, id, 3)
	if cancelled, err := s.DeleteBatch(t.Context(), id); err != nil || !cancelled {
		t.Errorf("cancelled: %t, %v", cancelled, err)
	}
	if err := checker.Check(t.Context(), s.pool, id); err != nil {
		t.Error(err)
	}
	if n := finish(t, s, d, endings(completed, deliveries)...); n != 0 {
		t.Errorf("%d results of a deleted batch", n)
	}
	_, err = s.GetBatch(t.Context(), id, nil)
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.DeleteBatch(t.Context(), id)
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.CancelBatch(t.Context(), id)
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.CancelRequests(t.Context(), id, []int32{1})
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Canceled)
	wantErr(t, err, batch.ErrNotFound)
	if got := page(t, s, id, 0, 10); len(got) != 0 {
		t.Errorf("%d results of a deleted batch", len(got))
	}
	// Its key is free again.
	again, created, err := s.CreateBatch(t.Context(), n)
	if err != nil || !created || again == id {
		t.Errorf("%s, created: %t, %v", again, created, err)
	}
	for _, delivery := range started(t, s, d, again, 10) {
		finish(t, s, d, completed(delivery))
	}
	if cancelled, err := s.DeleteBatch(t.Context(), again); err != nil || cancelled {
		t.Errorf("of a batch that has ended: cancelled: %t, %v", cancelled, err)
	}
}

func TestDeleteFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 5, testModel))
	ended, live := batchOf(t, s, file), batchOf(t, s, file)
	finish(t, s, d, endings(failed, started(t, s, d, ended, 5))...)
	started(t, s, d, live, 2)
	got, err := s.DeleteFile(t.Context(), file)
	if err != nil || len(got) != 1 || got[0] != live {
		t.Errorf("cancelled %v, %v", got, err)
	}
	for id, want := range map[batch.ID]batch.Status{ended: batch.StatusFailed, live: batch.StatusCancelled} {
		if b, err := s.GetBatch(t.Context(), id, nil); err != nil || b.Status != want {
			t.Errorf("%+v, %v", b, err)
		}
		if got := readAll(t, s, id); len(got) != 5 {
			t.Errorf("%d results", len(got))
		}
		_, err = s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Failed, batch.Canceled)
		wantErr(t, err, batch.ErrFileDeleted)
	}
	_, _, err = s.CreateBatch(t.Context(), NewBatch{File: file, CreatedBy: creator, CompletionWindow: time.Hour})
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.DeleteFile(t.Context(), file)
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.DeleteFile(t.Context(), upload(t, s, 3))
	wantErr(t, err, batch.ErrNotFound)
	check(t, s)
}

// A file is deleted while batches of it are created: none is left running.
func TestDeleteFileMeetsCreateBatch(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range 10 {
		file := newFile(t, s, templates(1, 2, testModel))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					if _, _, err := s.CreateBatch(t.Context(), NewBatch{File: file, CreatedBy: creator, CompletionWindow: time.Hour}); err != nil {
						wantErr(t, err, batch.ErrNotFound)
					}
				}
			})
		}
		if _, err := s.DeleteFile(t.Context(), file); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if n := sqlInt(t, s, `SELECT count(*) FROM batches WHERE file_id = $1 AND status = 'in_progress'`, [16]byte(file)); n != 0 {
			t.Errorf("%d batches of a deleted file run", n)
		}
	}
	check(t, s)
}
