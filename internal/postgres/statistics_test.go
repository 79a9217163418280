package postgres

import (
	"testing"

	"fusillade/internal/testenv"
)

// A request's life is four versions of rows: its own is inserted by the claim, updated
// by the start, which adds nothing to an index, and deleted by the finish, which
// inserts the result. One more would cost each request a tenth of its WAL. What is
// kept of the batch changes once for all requests of a statement.
func TestVersionsOfARequestsLife(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	const n = 200
	id := newBatch(t, s, n+1) // the last one keeps the batch in progress
	d := newDaemon(t, s)
	finish(t, s, d, endings(completed, started(t, s, d, id, n))...)

	got := make(map[string]TableStatistics)
	testenv.Eventually(t, "the counters have arrived", func() bool {
		tables, err := s.TableStatistics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables {
			if table.HeapBytes == 0 || table.IndexBytes == 0 {
				t.Errorf("%s has no size: %+v", table.Table, table)
			}
			got[table.Table] = TableStatistics{Inserted: table.Inserted, Updated: table.Updated, HotUpdated: table.HotUpdated, Deleted: table.Deleted}
		}
		return got["results"].Inserted >= n && got["requests"].Deleted >= n
	})
	for table, want := range map[string]TableStatistics{
		"templates": {Inserted: n + 1},
		"requests":  {Inserted: n, Updated: n, HotUpdated: n, Deleted: n},
		"results":   {Inserted: n},
		"batches":   {Inserted: 1, Updated: 1, HotUpdated: 1},
		"cursors":   {Inserted: 1, Updated: 1, HotUpdated: 1},
	} {
		if got[table] != want {
			t.Errorf("%s: %+v, want %+v", table, got[table], want)
		}
	}
}

func TestRemains(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	file := newFile(t, s, templates(1, 3, testModel))
	id := batchOf(t, s, file)
	d := newDaemon(t, s)
	finish(t, s, d, endings(completed, started(t, s, d, id, 3))...)
	remains := func() bool {
		t.Helper()
		left, err := s.Remains(t.Context(), id, file)
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	if _, err := s.DeleteBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	purgeAll(t, s, 100)
	if !remains() {
		t.Error("nothing is left, though the file is")
	}
	if _, err := s.DeleteFile(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if !remains() {
		t.Error("nothing is left, though nothing of the file was purged")
	}
	purgeAll(t, s, 100)
	if remains() {
		t.Error("something is left after the purge")
	}
	if _, err := s.Vacuuming(t.Context()); err != nil {
		t.Error(err)
	}
}
