package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const createFileSQL = `
INSERT INTO files (id, status, filename, created_by) VALUES ($1, 'uploading', $2, $3)`

// CreateFile begins an upload and returns the file's id. The file can be
// filled by CopyTemplates until FinishFile makes it ready or RemoveFile drops it.
func (s *Store) CreateFile(ctx context.Context, filename, createdBy string) (batch.FileID, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	id := batch.FileID(newID())
	if _, err := s.db.Exec(ctx, createFileSQL, [16]byte(id), filename, createdBy); err != nil {
		return batch.FileID{}, fmt.Errorf("creating file: %w", err)
	}
	return id, nil
}

// Each chunk is a transaction of its own, so that a slow client never holds
// one open; touched_at tells a slow upload from an abandoned one.
const touchFileSQL = `
UPDATE files SET touched_at = now() WHERE id = $1 AND status = 'uploading'`

// TouchFile keeps a file that is being uploaded from being taken for abandoned
// while nothing of it can be stored yet. It returns batch.ErrFileState if the
// file is not being uploaded.
func (s *Store) TouchFile(ctx context.Context, id batch.FileID) error {
	n, err := s.exec(ctx, touchFileSQL, [16]byte(id))
	if err == nil && n == 0 {
		err = fmt.Errorf("%s is not being uploaded: %w", id, batch.ErrFileState)
	}
	if err != nil {
		return fmt.Errorf("keeping file: %w", err)
	}
	return nil
}

// CopyTemplates stores a chunk of a file that is being uploaded, all of it or
// nothing. It returns batch.ErrFileState if the file is not being uploaded.
func (s *Store) CopyTemplates(ctx context.Context, id batch.FileID, templates []batch.Template) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, touchFileSQL, [16]byte(id))
		if err != nil {
			return fmt.Errorf("storing templates: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return fmt.Errorf("storing templates: %s is not being uploaded: %w", id, batch.ErrFileState)
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"templates"}, templateColumns, &templateRows{file: [16]byte(id), templates: templates})
		if err != nil {
			return fmt.Errorf("storing templates: %w", err)
		}
		return nil
	})
}

var templateColumns = []string{"file_id", "line", "model", "custom_id", "method", "path", "body"}

// templateRows feeds COPY without an allocation per row beyond the boxing
// that pgx.CopyFromSource asks for.
type templateRows struct {
	file      [16]byte
	templates []batch.Template
	next      int
	row       [7]any
}

func (r *templateRows) Next() bool { r.next++; return r.next <= len(r.templates) }
func (r *templateRows) Err() error { return nil }
func (r *templateRows) Values() ([]any, error) {
	t := &r.templates[r.next-1]
	r.row = [7]any{r.file, t.Line, string(t.Model), t.CustomID, t.Method, t.Path, t.Body}
	return r.row[:], nil
}

const (
	finishFileSQL = `
UPDATE files SET status = 'ready', bytes = $2, requests = $3, sha256 = $4, endpoint = $5, survey = $6::text::jsonb, touched_at = now(),
       expires_at = COALESCE(expires_at, now() + interval '30 days')
 WHERE id = $1 AND status = 'uploading'
RETURNING created_by`
)

// FinishFile makes an uploaded file ready. It expires in 30 days if it was not
// given another time; see ExpireFiles. It returns batch.ErrFileState if
// the file is not being uploaded, and a *batch.ModelLimitError.
func (s *Store) FinishFile(ctx context.Context, id batch.FileID, f batch.FileSummary) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error { return finishFile(ctx, tx, id, f) })
}

func finishFile(ctx context.Context, tx pgx.Tx, id batch.FileID, f batch.FileSummary) error {
	var owner string
	survey, err := encodeSurvey(f.Survey)
	if err != nil {
		return fmt.Errorf("finishing file: %w", err)
	}
	err = tx.QueryRow(ctx, finishFileSQL, [16]byte(id), f.Bytes, f.Requests, f.SHA256[:], f.Endpoint, survey).Scan(&owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("finishing file: %s is not being uploaded: %w", id, batch.ErrFileState)
	}
	if err == nil {
		err = storeFileModels(ctx, tx, id, owner, f)
	}
	if err != nil {
		return fmt.Errorf("finishing file: %w", err)
	}
	return nil
}

const (
	// First hidden, then emptied: a crash in between leaves a deleted file
	// whose rows the next call removes.
	hideFileSQL = `
UPDATE files SET status = 'deleted', deleted_at = now() WHERE id = $1 AND status = 'uploading'`
	emptyFileSQL = `
DELETE FROM templates WHERE file_id = $1
   AND line <= (SELECT max(line) FROM (SELECT line FROM templates WHERE file_id = $1 ORDER BY line LIMIT 10000) t)`
	dropFileSQL = `DELETE FROM files WHERE id = $1 AND status = 'deleted' AND requests = 0`
)

// RemoveFile drops a file that was never finished, and all its lines, some
// thousands at a time. A file that was finished is left alone, with
// batch.ErrFileState; one that is gone already is no error.
func (s *Store) RemoveFile(ctx context.Context, id batch.FileID) error {
	if _, err := s.exec(ctx, hideFileSQL, [16]byte(id)); err != nil {
		return fmt.Errorf("removing file: %w", err)
	}
	var finished bool
	if err := s.queryRow(ctx, `SELECT EXISTS (SELECT FROM files WHERE id = $1 AND requests > 0)`, []any{[16]byte(id)}, &finished); err != nil {
		return fmt.Errorf("removing file: %w", err)
	}
	if finished {
		return fmt.Errorf("removing file: %s was finished: %w", id, batch.ErrFileState)
	}
	for {
		n, err := s.exec(ctx, emptyFileSQL, [16]byte(id))
		if err != nil {
			return fmt.Errorf("removing file: %w", err)
		}
		if n == 0 {
			break
		}
	}
	if _, err := s.exec(ctx, dropFileSQL, [16]byte(id)); err != nil {
		return fmt.Errorf("removing file: %w", err)
	}
	return nil
}

const abandonedFilesSQL = `
SELECT id FROM files
 WHERE status <> 'ready' AND requests = 0 AND touched_at <= now() - $1::interval
 ORDER BY touched_at LIMIT 1000`

// RemoveAbandonedFiles removes uploads that nobody has added to for the given
// time, and what is left of earlier removals. It returns how many. One that
// fails does not keep it from the others.
func (s *Store) RemoveAbandonedFiles(ctx context.Context, idle time.Duration) (int, error) {
	ids, err := collect(ctx, s, pgx.RowTo[[16]byte], abandonedFilesSQL, idle)
	if err != nil {
		return 0, fmt.Errorf("looking for abandoned uploads: %w", err)
	}
	var failed []error
	for _, id := range ids {
		if err := s.RemoveFile(ctx, batch.FileID(id)); err != nil {
			failed = append(failed, err)
		}
	}
	return len(ids) - len(failed), errors.Join(failed...)
}

const findFileSQL = `
SELECT id FROM files
 WHERE sha256 = $1 AND status = 'ready' AND created_by = $2 AND (expires_at > now()) IS NOT false
 ORDER BY created_at DESC LIMIT 1`

// FindFile returns the newest ready file of this owner with exactly this
// content that has not expired, or batch.ErrNotFound.
func (s *Store) FindFile(ctx context.Context, sha256 [32]byte, createdBy string) (batch.FileID, error) {
	var id [16]byte
	if err := s.queryRow(ctx, findFileSQL, []any{sha256[:], createdBy}, &id); err != nil {
		return batch.FileID{}, fmt.Errorf("looking for file: %w", err)
	}
	return batch.FileID(id), nil
}

// newID returns a UUIDv7, so that ids sort by time and index inserts stay at
// the right edge.
func newID() [16]byte { return uuid.Must(uuid.NewV7()) }
