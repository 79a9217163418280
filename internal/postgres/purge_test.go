package postgres

import (
	"sync"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

// purgeAll purges everything that is deleted, n rows at a time, and returns
// how many rows went.
func purgeAll(t testing.TB, s *Store, n int) (rows int) {
	t.Helper()
	batches, err := s.DeletedBatches(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range batches {
		var at PurgePlace
		for removed := -1; removed != 0; rows += removed {
			if removed, err = s.PurgeBatch(t.Context(), id, &at, n); err != nil || removed > n {
				t.Fatalf("%d removed, %v", removed, err)
			}
		}
	}
	files, err := s.DeletedFiles(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range files {
		var at PurgePlace
		for removed := -1; removed != 0; rows += removed {
			if removed, err = s.PurgeFile(t.Context(), id, &at, n); err != nil || removed > n {
				t.Fatalf("%d removed, %v", removed, err)
			}
		}
	}
	return rows
}

func TestPurge(t *testing.T) {
	t.Parallel()
	const lines = 25
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, lines, testModel, otherName))
	gone, kept := batchOf(t, s, file), batchOf(t, s, file)
	for _, id := range []batch.ID{gone, kept} {
		finish(t, s, d, endings(completed, started(t, s, d, id, 8))...)
	}
	other := newBatch(t, s, 4)
	if n := purgeAll(t, s, 5); n != 0 {
		t.Errorf("%d rows removed of what is not deleted", n)
	}
	if n, err := s.PurgeBatch(t.Context(), kept, new(PurgePlace), 5); n != 0 || err != nil {
		t.Errorf("%d rows removed of a batch that is not deleted, %v", n, err)
	}
	if n, err := s.PurgeFile(t.Context(), file, new(PurgePlace), 5); n != 0 || err != nil {
		t.Errorf("%d rows removed of a file that is not deleted, %v", n, err)
	}

	if _, err := s.DeleteBatch(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	purgeAll(t, s, 3)
	if err := checker.Erased(t.Context(), s.pool, gone); err != nil {
		t.Error(err)
	}
	wantStored(t, s, file, 1, 2, lines)

	// The requests of a deleted file are erased; the results of its batches
	// can be read as before.
	if _, err := s.DeleteFile(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if n, err := s.RemoveAbandonedFiles(t.Context(), 0); n != 0 || err != nil {
		t.Errorf("%d files removed as abandoned uploads, %v", n, err)
	}
	if n := purgeAll(t, s, 4); n != lines {
		t.Errorf("%d bodies erased, want %d", n, lines)
	}
	if n := sqlInt(t, s, `SELECT count(*) FROM templates WHERE file_id = $1 AND body <> ''`, [16]byte(file)); n != 0 {
		t.Errorf("%d bodies of a deleted file are left", n)
	}
	if n := purgeAll(t, s, 4); n != 0 {
		t.Errorf("%d rows removed twice", n)
	}
	if got := readAll(t, s, kept); len(got) != lines {
		t.Errorf("%d results", len(got))
	}
	check(t, s)

	if _, err := s.DeleteBatch(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	purgeAll(t, s, 1000)
	wantStored(t, s, file, 0, 0, 0)
	if err := checker.Erased(t.Context(), s.pool, kept); err != nil {
		t.Error(err)
	}
	if c := counts(t, s, other); c.Pending != 4 {
		t.Errorf("another batch: %+v", c)
	}
}

// Late deletes of a purge look at as much as early ones: what was deleted before is
// still in the index until a vacuum.
func TestPurgeLooksAtWhatItDeletes(t *testing.T) {
	t.Parallel()
	const lines, rows, early = 20_000, 10, 1000
	s := newStore(t)
	file := newLargeFile(t, s, lines)
	if _, err := s.DeleteFile(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	pages := func(at *PurgePlace) (n int64) {
		t.Helper()
		tx, err := s.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(t.Context()) }()
		var plan []struct {
			Plan struct {
				Hit  int64 `json:"Shared Hit Blocks"`
				Read int64 `json:"Shared Read Blocks"`
			}
		}
		err = tx.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+purgeTemplatesSQL, [16]byte(file), rows, at.line).Scan(&plan)
		if err != nil {
			t.Fatal(err)
		}
		return plan[0].Plan.Hit + plan[0].Plan.Read
	}
	var at PurgePlace
	first := pages(&at)
	for range lines/early - 1 {
		if n, err := s.PurgeFile(t.Context(), file, &at, early); n != early || err != nil {
			t.Fatalf("%d rows removed, %v", n, err)
		}
	}
	last := pages(&at)
	if last > 2*first {
		t.Errorf("the last delete looks at %d pages, the first at %d", last, first)
	}
	if n := purgeAll(t, s, early); n != early+1 { // and the file
		t.Errorf("%d rows removed at last, want %d", n, early+1)
	}
}

// Two dispatchers purge at once.
func TestPurgersMeet(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 120, testModel))
	id := batchOf(t, s, file)
	finish(t, s, d, endings(completed, started(t, s, d, id, 120))...)
	if _, err := s.DeleteFile(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	both := func() {
		for range 2 {
			wg.Go(func() { purgeAll(t, s, 7) })
		}
		wg.Wait()
	}
	both()
	if n := sqlInt(t, s, `SELECT count(*) FROM templates WHERE file_id = $1 AND body <> ''`, [16]byte(file)); n != 0 {
		t.Errorf("%d bodies are left", n)
	}
	if _, err := s.DeleteBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	both()
	purgeAll(t, s, 7) // the file, if its batch went last
	wantStored(t, s, file, 0, 0, 0)
	if err := checker.Erased(t.Context(), s.pool, id); err != nil {
		t.Error(err)
	}
}

func TestExpireFiles(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	const days30 = 30 * 24 * time.Hour
	age := func(file batch.FileID, by time.Duration) {
		sqlExec(t, s, `UPDATE files SET created_at = created_at - $2::interval, expires_at = expires_at - $2::interval WHERE id = $1`, [16]byte(file), by)
		sqlExec(t, s, `UPDATE batches SET created_at = created_at - $2::interval, finished_at = finished_at - $2::interval WHERE file_id = $1`, [16]byte(file), by)
	}
	expire := func(want int) {
		t.Helper()
		if n, err := s.ExpireFiles(t.Context(), 10); err != nil || n != want {
			t.Errorf("%d expired, %v, want %d", n, err, want)
		}
	}
	old, running, recent, deleted := newFile(t, s, templates(1, 3, testModel)), newFile(t, s, templates(1, 3, testModel)),
		newFile(t, s, templates(1, 3, testModel)), newFile(t, s, templates(1, 3, testModel))
	oldBatch, live, late, ofDeleted := batchOf(t, s, old), batchOf(t, s, running), batchOf(t, s, recent), batchOf(t, s, deleted)
	for _, id := range []batch.ID{oldBatch, ofDeleted} {
		finish(t, s, d, endings(completed, started(t, s, d, id, 3))...)
	}
	if _, err := s.DeleteFile(t.Context(), deleted); err != nil {
		t.Fatal(err)
	}
	for _, f := range []batch.FileID{old, running, recent, deleted} {
		age(f, days30-time.Hour)
	}
	expire(0)
	for _, f := range []batch.FileID{old, running, recent, deleted} {
		age(f, 2*time.Hour)
	}
	finish(t, s, d, endings(completed, started(t, s, d, late, 3))...)
	expire(2)
	expire(0)
	for id, want := range map[batch.ID]error{oldBatch: batch.ErrNotFound, ofDeleted: batch.ErrNotFound, live: nil, late: nil} {
		_, err := s.GetBatch(t.Context(), id, nil)
		wantErr(t, err, want)
	}
	purgeAll(t, s, 100)
	wantStored(t, s, old, 0, 0, 0)
	wantStored(t, s, deleted, 0, 0, 0)
	wantStored(t, s, running, 1, 1, 3)
	// The last batch of it ended long enough ago.
	age(recent, days30)
	expire(1)
	purgeAll(t, s, 100)
	wantStored(t, s, recent, 0, 0, 0)
	check(t, s)
}
