package postgres

import (
	"slices"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// walk lists all of an owner's files in pages of n.
func walkFiles(t testing.TB, s *Store, q FileQuery) (out []ListedFile) {
	t.Helper()
	for {
		page, err := s.ListFiles(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > q.Limit {
			t.Fatalf("%d files on a page of %d", len(page), q.Limit)
		}
		if len(page) == 0 {
			return out
		}
		out = append(out, page...)
		q.After = &page[len(page)-1]
	}
}

// Input files and those of batches are one list, whole and in one order
// whatever the page.
func TestListFiles(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	var want []ListedFile // oldest first
	for i := range 4 {
		file := newFile(t, s, templates(1, 2, testModel))
		want = append(want, ListedFile{Kind: InputFile, File: File{ID: file}})
		id := batchOf(t, s, file)
		deliveries := started(t, s, d, id, 2)
		switch i {
		case 0: // still runs
			continue
		case 1:
			finish(t, s, d, completed(deliveries[0]), completed(deliveries[1]))
			want = append(want, ListedFile{Kind: OutputFile, File: File{ID: batch.FileID(id)}})
		case 2:
			finish(t, s, d, failed(deliveries[0]), failed(deliveries[1]))
			want = append(want, ListedFile{Kind: ErrorFile, File: File{ID: batch.FileID(id)}})
		case 3:
			finish(t, s, d, completed(deliveries[0]), failed(deliveries[1]))
			want = append(want, ListedFile{Kind: OutputFile, File: File{ID: batch.FileID(id)}},
				ListedFile{Kind: ErrorFile, File: File{ID: batch.FileID(id)}})
		}
	}
	gone := newFile(t, s, templates(1, 2, testModel))
	sqlExec(t, s, `UPDATE files SET expires_at = now() - interval '1 s' WHERE id = $1`, [16]byte(gone))
	same := func(a, b ListedFile) bool { return a.Kind == b.Kind && a.ID == b.ID }
	for n := 1; n <= len(want)+1; n++ {
		for _, kinds := range [][2]bool{{true, true}, {true, false}, {false, true}, {false, false}} {
			q := FileQuery{Owner: creator, Inputs: kinds[0], Results: kinds[1], Limit: n, Ascending: true}
			wanted := slices.DeleteFunc(slices.Clone(want), func(f ListedFile) bool {
				return f.Kind == InputFile && !q.Inputs || f.Kind != InputFile && !q.Results
			})
			if got := walkFiles(t, s, q); !slices.EqualFunc(got, wanted, same) {
				t.Errorf("pages of %d, %v: %v, want %v", n, kinds, got, wanted)
			}
			q.Ascending = false
			slices.Reverse(wanted)
			if got := walkFiles(t, s, q); !slices.EqualFunc(got, wanted, same) {
				t.Errorf("pages of %d, %v, newest first: %v, want %v", n, kinds, got, wanted)
			}
		}
	}
	if got := walkFiles(t, s, FileQuery{Owner: "bob", Inputs: true, Results: true, Limit: 10}); len(got) > 0 {
		t.Errorf("another owner's list: %v", got)
	}
	_, err := s.GetFile(t.Context(), creator, gone)
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.GetFile(t.Context(), "bob", want[0].ID)
	wantErr(t, err, batch.ErrNotFound)
}

// A file's expiry is set while it is uploaded, and no later.
func TestSetFileExpiry(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id, err := s.CreateFile(t.Context(), "a", creator)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetFileExpiry(t.Context(), id, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	lines := templates(1, 1, testModel)
	if err := s.CopyTemplates(t.Context(), id, lines); err != nil {
		t.Fatal(err)
	}
	if err := s.FinishFile(t.Context(), id, summary(lines)); err != nil {
		t.Fatal(err)
	}
	f, err := s.GetFile(t.Context(), creator, id)
	if err != nil || f.ExpiresAt.Sub(f.CreatedAt) != 2*time.Hour {
		t.Errorf("created %v, expires %v (%v)", f.CreatedAt, f.ExpiresAt, err)
	}
	wantErr(t, s.SetFileExpiry(t.Context(), id, time.Hour), batch.ErrFileState)
}

// What the API reads page by page goes by key, whatever the tables hold.
func TestPlansOfTheAPI(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 3000, testModel))
	id := batchOf(t, s, file)
	var ends []Completion
	for i, delivery := range started(t, s, d, id, 2000) {
		if i%3 == 0 {
			ends = append(ends, failed(delivery))
		} else {
			ends = append(ends, completed(delivery))
		}
	}
	finish(t, s, d, ends...)
	for name, q := range map[string]struct {
		sql  string
		args []any
		most float64 // rows touched
	}{
		"file lines":      {fileLinesSQL, []any{[16]byte(file), 1500, 0, 10, 1 << 20}, 100},
		"completed lines": {resultsSQL, []any{[16]byte(id), 1000, false, 0, 10, 1 << 20}, 200},
		"other lines":     {resultsSQL, []any{[16]byte(id), 1000, true, 0, 10, 1 << 20}, 200},
		"window":          {outcomesWindowEndSQL, []any{[16]byte(file), 1000, 19}, 100},
		"outcomes":        {outcomesSQL, []any{[16]byte(id), [16]byte(file), 1000, 1020, "", "", 20, 1 << 20}, 500},
	} {
		plan := explain(t, s, ", ANALYZE", q.sql, q.args...)
		if scans := plan.wholeScans(); len(scans) > 0 {
			t.Errorf("%s: %v", name, scans)
		}
		if rows := plan.touched(); rows > q.most {
			t.Errorf("%s: %v rows are touched, want at most %v", name, rows, q.most)
		}
	}
}
