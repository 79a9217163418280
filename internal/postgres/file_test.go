package postgres

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
)

// stored counts what the database holds of a file.
func stored(t testing.TB, s *Store, id batch.FileID) (files, models, lines int64) {
	t.Helper()
	key := [16]byte(id)
	return sqlInt(t, s, `SELECT count(*) FROM files WHERE id = $1`, key),
		sqlInt(t, s, `SELECT count(*) FROM file_models WHERE file_id = $1`, key),
		sqlInt(t, s, `SELECT count(*) FROM templates WHERE file_id = $1`, key)
}

func wantStored(t testing.TB, s *Store, id batch.FileID, files, models, lines int64) {
	t.Helper()
	if f, m, l := stored(t, s, id); f != files || m != models || l != lines {
		t.Errorf("%d files, %d models, %d lines are stored, want %d, %d, %d", f, m, l, files, models, lines)
	}
}

// upload begins a file of n lines and leaves it unfinished.
func upload(t testing.TB, s *Store, n int) batch.FileID {
	t.Helper()
	id, err := s.CreateFile(t.Context(), "input.jsonl", creator)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CopyTemplates(t.Context(), id, templates(1, n, testModel)); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFileInChunks(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lines := templates(1, 100, testModel, otherName)
	lines[3].Body = []byte("\x00\xff not text")
	lines[4].Body = []byte{}
	id, err := s.CreateFile(t.Context(), "input.jsonl", creator)
	if err != nil {
		t.Fatal(err)
	}
	for _, chunk := range [][]batch.Template{lines[:40], nil, lines[40:41], lines[41:]} {
		if err := s.CopyTemplates(t.Context(), id, chunk); err != nil {
			t.Fatal(err)
		}
	}
	sum := summary(lines)
	_, err = s.FindFile(t.Context(), sum.SHA256, creator)
	wantErr(t, err, batch.ErrNotFound)
	if err := s.FinishFile(t.Context(), id, sum); err != nil {
		t.Fatal(err)
	}
	wantStored(t, s, id, 1, 2, 100)

	rows, err := s.pool.Query(t.Context(), `SELECT line, custom_id, model, method, path, body FROM templates ORDER BY line`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[batch.Template])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines, got, asBytes); diff != "" {
		t.Errorf("stored lines (-want +got):\n%s", diff)
	}
}

func TestFindFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	lines := templates(1, 3, testModel)
	sum := summary(lines)
	newFile(t, s, lines)
	newest := newFile(t, s, lines)
	sqlExec(t, s, `UPDATE files SET created_at = created_at + interval '1 s' WHERE id = $1`, [16]byte(newest))
	newFile(t, s, templates(1, 4, testModel))
	upload(t, s, 3)

	got, err := s.FindFile(t.Context(), sum.SHA256, creator)
	if err != nil || got != newest {
		t.Errorf("found %s, %v, want %s", got, err, newest)
	}
	_, err = s.FindFile(t.Context(), sum.SHA256, "bob")
	wantErr(t, err, batch.ErrNotFound)
	_, err = s.FindFile(t.Context(), sha256.Sum256(nil), creator)
	wantErr(t, err, batch.ErrNotFound)
}

func TestChunkIsStoredWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := upload(t, s, 10)
	bad := append(templates(11, 5, testModel), templates(3, 1, testModel)...)
	err := s.CopyTemplates(t.Context(), id, bad)
	if err == nil || Transient(err) {
		t.Errorf("a line twice: %v", err)
	}
	wantStored(t, s, id, 1, 0, 10)
	if err := s.CopyTemplates(t.Context(), id, templates(11, 5, testModel)); err != nil {
		t.Error(err)
	}
	wantStored(t, s, id, 1, 0, 15)
}

func TestOnlyAnUploadTakesLines(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	removed := upload(t, s, 1)
	if err := s.RemoveFile(t.Context(), removed); err != nil {
		t.Fatal(err)
	}
	deleting := upload(t, s, 1)
	sqlExec(t, s, hideFileSQL, [16]byte(deleting))
	for name, id := range map[string]batch.FileID{
		"unknown": {}, "ready": newFile(t, s, templates(1, 2, testModel)), "removed": removed, "being removed": deleting,
	} {
		t.Run(name, func(t *testing.T) {
			_, models, lines := stored(t, s, id)
			wantErr(t, s.CopyTemplates(t.Context(), id, templates(10, 1, testModel)), batch.ErrFileState)
			wantErr(t, s.FinishFile(t.Context(), id, summary(templates(1, 1, otherName))), batch.ErrFileState)
			if _, m, l := stored(t, s, id); m != models || l != lines {
				t.Errorf("%d models and %d lines, before %d and %d", m, l, models, lines)
			}
		})
	}
}

func TestRemoveFile(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	other := upload(t, s, 3)
	id := upload(t, s, 20_001) // more than one delete takes
	for range 2 {              // what is gone is no error
		if err := s.RemoveFile(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		wantStored(t, s, id, 0, 0, 0)
	}
	wantStored(t, s, other, 1, 0, 3)

	ready := newFile(t, s, templates(1, 5, testModel))
	wantErr(t, s.RemoveFile(t.Context(), ready), batch.ErrFileState)
	wantStored(t, s, ready, 1, 1, 5)
}

func TestRefusedFileLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	good := `{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}` + "\n"
	r, err := jsonl.NewReader(strings.NewReader(good+"no JSON\n"), jsonl.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := jsonl.Load(t.Context(), s, r, "bad.jsonl", creator, nil); err == nil {
		t.Fatal("no error")
	}
	for _, table := range []string{"files", "file_models", "templates", "batches", "cursors"} {
		if n := sqlInt(t, s, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
	r, err = jsonl.NewReader(bytes.NewReader([]byte(good)), jsonl.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := jsonl.Load(t.Context(), s, r, "good.jsonl", creator, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantStored(t, s, id, 1, 1, 1)
}

// The first one wins, and what remains is a whole file or nothing.
func TestRemoveRacesUpload(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for range 20 {
		id := upload(t, s, 5)
		var finishErr, removeErr error
		var wg sync.WaitGroup
		wg.Go(func() {
			finishErr = s.CopyTemplates(t.Context(), id, templates(6, 5, testModel))
			if finishErr == nil {
				finishErr = s.FinishFile(t.Context(), id, summary(templates(1, 10, testModel)))
			}
		})
		wg.Go(func() { removeErr = s.RemoveFile(t.Context(), id) })
		wg.Wait()
		if finishErr == nil {
			wantErr(t, removeErr, batch.ErrFileState)
			wantStored(t, s, id, 1, 1, 10)
			continue
		}
		wantErr(t, finishErr, batch.ErrFileState)
		wantErr(t, removeErr, nil)
		wantStored(t, s, id, 0, 0, 0)
	}
}

func TestRemoveAbandonedFiles(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	abandoned, halfRemoved, resumed := upload(t, s, 3), upload(t, s, 3), upload(t, s, 3)
	slow, stuck := upload(t, s, 3), upload(t, s, 3)
	ready := newFile(t, s, templates(1, 3, testModel))
	sqlExec(t, s, hideFileSQL, [16]byte(halfRemoved))
	sqlExec(t, s, `UPDATE files SET touched_at = now() - interval '61 min'`)
	if err := s.CopyTemplates(t.Context(), resumed, templates(4, 1, testModel)); err != nil {
		t.Fatal(err)
	}
	if err := s.TouchFile(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.TouchFile(t.Context(), ready), batch.ErrFileState)
	fresh := upload(t, s, 3)
	// One that cannot be removed keeps no other from it.
	sqlExec(t, s, `UPDATE files SET touched_at = now() - interval '62 min' WHERE id = $1`, [16]byte(stuck))
	sqlExec(t, s, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'refused'; END$$`)
	sqlExec(t, s, fmt.Sprintf(`CREATE TRIGGER refuse BEFORE DELETE ON templates FOR EACH ROW WHEN (OLD.file_id = '%x') EXECUTE FUNCTION refuse()`, [16]byte(stuck)))

	n, err := s.RemoveAbandonedFiles(t.Context(), time.Hour)
	if err == nil || n != 2 {
		t.Errorf("%d removed, %v, want 2 and an error", n, err)
	}
	wantStored(t, s, slow, 1, 0, 3)
	wantStored(t, s, abandoned, 0, 0, 0)
	wantStored(t, s, halfRemoved, 0, 0, 0)
	wantStored(t, s, resumed, 1, 0, 4)
	wantStored(t, s, fresh, 1, 0, 3)
	wantStored(t, s, ready, 1, 1, 3)
}
