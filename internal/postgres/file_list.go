package postgres

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// File is an input file that is ready.
type File struct {
	ID        batch.FileID
	Filename  string
	Endpoint  string // of its requests; empty: they differ
	Bytes     int64
	Requests  int
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
}

const fileSQL = `
SELECT filename, endpoint, bytes, requests, created_at, expires_at FROM files
 WHERE id = $1 AND created_by = $2 AND status = 'ready' AND (expires_at > now()) IS NOT false`

// GetFile returns an owner's file that is ready. One that belongs to someone
// else, is deleted or has expired is batch.ErrNotFound.
func (s *Store) GetFile(ctx context.Context, owner string, id batch.FileID) (File, error) {
	f := File{ID: id}
	err := s.queryRow(ctx, fileSQL, []any{[16]byte(id), owner}, &f.Filename, &f.Endpoint, &f.Bytes, &f.Requests, &f.CreatedAt, orZero(&f.ExpiresAt))
	if err != nil {
		return File{}, fmt.Errorf("reading file: %w", err)
	}
	return f, nil
}

// SetFileExpiry makes an uploading file expire so long after its creation.
func (s *Store) SetFileExpiry(ctx context.Context, id batch.FileID, after time.Duration) error {
	n, err := s.exec(ctx, `
UPDATE files SET expires_at = created_at + $2::interval WHERE id = $1 AND status = 'uploading'`, [16]byte(id), after)
	if err != nil {
		return fmt.Errorf("setting the file's expiry: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("setting the file's expiry: %s is not being uploaded: %w", id, batch.ErrFileState)
	}
	return nil
}

// FileKind tells input files from the two that a batch's results are read as.
type FileKind int

// The kinds of files. Where their ids are equal they are listed in this order.
const (
	InputFile FileKind = iota
	OutputFile
	ErrorFile
)

// ListedFile is a File or, with the id of its batch, a batch.ResultFile.
type ListedFile struct {
	Kind FileKind
	File
}

// FileQuery says which files to list.
type FileQuery struct {
	Owner     string
	Inputs    bool // list input files
	Results   bool // list output and error files of batches that have ended
	After     *ListedFile
	Ascending bool // oldest first
	Limit     int
}

// An output or error file is listed by the id of its batch, so that one order
// holds for all: that of creation.
const listFilesSQL = `
SELECT kind, id, filename, endpoint, bytes, requests, created_at, expires_at
  FROM ((SELECT 0 AS kind, id, filename, endpoint, bytes, requests, created_at, expires_at
           FROM files
          WHERE $2 AND created_by = $1 AND status = 'ready' AND (expires_at > now()) IS NOT false
            AND id %[1]s= $4 AND (id, 0) %[1]s ($4, $5::int)
          ORDER BY id %[2]s LIMIT $6)
        UNION ALL
        (SELECT k.kind, b.id, '', '', 0, 0, b.created_at, b.finished_at + b.output_expires_after
           FROM batches b
          CROSS JOIN LATERAL (VALUES (1, completed > 0 AND output_deleted_at IS NULL),
                                     (2, failed + canceled + expired > 0 AND error_deleted_at IS NULL)) k (kind, there)
          WHERE $3 AND b.created_by = $1 AND b.deleted_at IS NULL AND b.status <> 'in_progress' AND k.there
            AND (b.finished_at + b.output_expires_after > now()) IS NOT false
            AND b.id %[1]s= $4 AND (b.id, k.kind) %[1]s ($4, $5::int)
          ORDER BY b.id %[2]s, k.kind %[2]s LIMIT $6)) f
 ORDER BY id %[2]s, kind %[2]s LIMIT $6`

var (
	listFilesDescSQL = fmt.Sprintf(listFilesSQL, "<", "DESC")
	listFilesAscSQL  = fmt.Sprintf(listFilesSQL, ">", "ASC")
)

// ListFiles returns a page of an owner's files.
func (s *Store) ListFiles(ctx context.Context, q FileQuery) ([]ListedFile, error) {
	sql, after, kind := listFilesDescSQL, [16]byte(bytes.Repeat([]byte{0xff}, 16)), ErrorFile+1
	if q.Ascending {
		sql, after, kind = listFilesAscSQL, [16]byte{}, InputFile-1
	}
	if q.After != nil {
		after, kind = [16]byte(q.After.ID), q.After.Kind
	}
	files, err := collect(ctx, s, func(row pgx.CollectableRow) (f ListedFile, err error) {
		err = row.Scan(&f.Kind, (*[16]byte)(&f.ID), &f.Filename, &f.Endpoint, &f.Bytes, &f.Requests, &f.CreatedAt, orZero(&f.ExpiresAt))
		return f, err
	}, sql, q.Owner, q.Inputs, q.Results, after, int(kind), q.Limit)
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	return files, nil
}

// Of the newest files only: an owner may have very many.
const ownerModelsSQL = `
SELECT DISTINCT m.model
  FROM (SELECT id FROM files WHERE created_by = $1 AND status = 'ready' ORDER BY created_by DESC, id DESC LIMIT 200) f
 CROSS JOIN LATERAL (SELECT model FROM file_models WHERE file_id = f.id ORDER BY model LIMIT 1000) m
 ORDER BY 1 LIMIT 1000`

// OwnerModels returns the models that an owner's newest files ask for.
func (s *Store) OwnerModels(ctx context.Context, owner string) ([]string, error) {
	models, err := collect(ctx, s, pgx.RowTo[string], ownerModelsSQL, owner)
	if err != nil {
		return nil, fmt.Errorf("listing models: %w", err)
	}
	return models, nil
}
