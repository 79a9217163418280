package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// UploadID names a file that is uploaded in parts.
type UploadID [16]byte

// PartID names one of the parts of an upload.
type PartID [16]byte

// Upload is a file that is uploaded in parts.
type Upload struct {
	ID          UploadID
	Owner       string
	Filename    string
	Bytes       int64         // of the whole file
	FileExpires time.Duration // 0: as other files
	Status      string        // pending, completed, cancelled or expired
	File        batch.FileID  // of a completed one
	CreatedAt   time.Time
	ExpiresAt   time.Time
}

// UploadPending is the status of an upload that takes parts.
const UploadPending = "pending"

// Bounds of what one owner may leave lying about.
const (
	uploadLifetime    = time.Hour
	maxPendingUploads = 32
)

const createUploadSQL = `
INSERT INTO uploads (id, owner, filename, bytes, file_expires, expires_at)
SELECT $1, $2, $3, $4, NULLIF($5::interval, '0'), now() + $6::interval
 WHERE (SELECT count(*) FROM uploads WHERE owner = $2 AND status = 'pending' AND expires_at > now()) < $7`

// CreateUpload begins an upload, which takes parts for an hour. It returns
// a *batch.TooManyError to an owner that has too many of them.
func (s *Store) CreateUpload(ctx context.Context, u Upload) (UploadID, error) {
	id := UploadID(newID())
	n, err := s.exec(ctx, createUploadSQL, [16]byte(id), u.Owner, u.Filename, u.Bytes, u.FileExpires, uploadLifetime, maxPendingUploads)
	if err == nil && n == 0 {
		err = &batch.TooManyError{What: "pending uploads of one owner", Limit: maxPendingUploads}
	}
	if err != nil {
		return UploadID{}, fmt.Errorf("creating upload: %w", err)
	}
	return id, nil
}

const (
	uploadStatusSQL = `CASE WHEN status = 'pending' AND expires_at <= now() THEN 'expired' ELSE status END`
	getUploadSQL    = `
SELECT owner, filename, bytes, COALESCE(file_expires, '0'), ` + uploadStatusSQL + `,
       COALESCE(file_id, '00000000-0000-0000-0000-000000000000'), created_at, expires_at
  FROM uploads WHERE id = $1 AND owner = $2`
)

// GetUpload returns the owner's upload, or batch.ErrNotFound.
func (s *Store) GetUpload(ctx context.Context, owner string, id UploadID) (Upload, error) {
	u := Upload{ID: id}
	err := s.queryRow(ctx, getUploadSQL, []any{[16]byte(id), owner}, &u.Owner, &u.Filename, &u.Bytes, &u.FileExpires, &u.Status,
		(*[16]byte)(&u.File), &u.CreatedAt, &u.ExpiresAt)
	if err != nil {
		return Upload{}, fmt.Errorf("reading upload: %w", err)
	}
	return u, nil
}

// uploadRefused says why a statement changed nothing of an upload: it is not
// there or not pending; else otherwise.
func uploadRefused(ctx context.Context, q pgxQuerier, id UploadID, otherwise error) error {
	var status string
	err := q.QueryRow(ctx, `SELECT `+uploadStatusSQL+` FROM uploads WHERE id = $1`, [16]byte(id)).Scan(&status)
	switch {
	case err != nil:
		return translate(err)
	case status != UploadPending:
		return &batch.UploadStateError{Status: status}
	}
	return otherwise
}

// CancelUpload ends an upload that is pending, else it returns a
// *batch.UploadStateError, or batch.ErrNotFound.
func (s *Store) CancelUpload(ctx context.Context, owner string, id UploadID) error {
	n, err := s.exec(ctx, `
UPDATE uploads SET status = 'cancelled' WHERE id = $1 AND owner = $2 AND status = 'pending' AND expires_at > now()`, [16]byte(id), owner)
	if err == nil && n == 0 {
		err = uploadRefused(ctx, s.db, id, batch.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("cancelling upload: %w", err)
	}
	return nil
}

const (
	beginPartSQL = `
INSERT INTO upload_parts (id, upload_id) SELECT $1, id FROM uploads WHERE id = $2 AND status = 'pending' AND expires_at > now()`

	// The lock is the foreign key's own: a purge either waits for the chunk, or
	// has taken the part away before.
	addChunkSQL = `
INSERT INTO upload_chunks (part_id, n, data) SELECT id, $2, $3 FROM upload_parts WHERE id = $1 FOR KEY SHARE`

	// Twice the file, and a part: a part may come again whose answer was lost.
	finishPartSQL = `
WITH u AS (
    UPDATE uploads SET received = received + $3
     WHERE id = $2 AND status = 'pending' AND expires_at > now() AND received + $3 <= 2 * bytes + 67108864
    RETURNING id
)
UPDATE upload_parts p SET bytes = $3 FROM u WHERE p.id = $1 AND p.upload_id = u.id AND p.bytes IS NULL`
)

// BeginPart makes room for a part, which is filled by AddChunk and counts once
// FinishPart has returned. It returns a *batch.UploadStateError if the upload
// takes no parts any more.
func (s *Store) BeginPart(ctx context.Context, id UploadID) (PartID, error) {
	part := PartID(newID())
	n, err := s.exec(ctx, beginPartSQL, [16]byte(part), [16]byte(id))
	if err == nil && n == 0 {
		err = uploadRefused(ctx, s.db, id, batch.ErrUploadState)
	}
	if err != nil {
		return PartID{}, fmt.Errorf("beginning part: %w", err)
	}
	return part, nil
}

// AddChunk stores the n-th piece of a part, from 0. It returns
// batch.ErrUploadState if the part is gone: its upload was finished and purged.
func (s *Store) AddChunk(ctx context.Context, part PartID, n int, data []byte) error {
	added, err := s.exec(ctx, addChunkSQL, [16]byte(part), n, data)
	if err == nil && added == 0 {
		err = batch.ErrUploadState
	}
	if err != nil {
		return fmt.Errorf("storing part: %w", err)
	}
	return nil
}

// FinishPart makes a part count. It returns a *batch.UploadStateError if the
// upload takes no parts any more, and batch.ErrUploadOverfull if it would have
// received too much.
func (s *Store) FinishPart(ctx context.Context, id UploadID, part PartID, bytes int64) error {
	n, err := s.exec(ctx, finishPartSQL, [16]byte(part), [16]byte(id), bytes)
	if err == nil && n == 0 {
		err = uploadRefused(ctx, s.db, id, batch.ErrUploadOverfull)
	}
	if err != nil {
		return fmt.Errorf("finishing part: %w", err)
	}
	return nil
}

// RemovePart drops a part that was not received whole.
func (s *Store) RemovePart(ctx context.Context, part PartID) error {
	if _, err := s.exec(ctx, `DELETE FROM upload_parts WHERE id = $1 AND bytes IS NULL`, [16]byte(part)); err != nil {
		return fmt.Errorf("removing part: %w", err)
	}
	return nil
}

// PartBytes returns the sizes of those of an upload's parts that were received
// whole.
func (s *Store) PartBytes(ctx context.Context, id UploadID) (map[PartID]int64, error) {
	sizes := make(map[PartID]int64)
	var part [16]byte
	var bytes int64
	err := s.forEach(ctx, `SELECT id, bytes FROM upload_parts WHERE upload_id = $1 AND bytes IS NOT NULL`, []any{[16]byte(id)},
		[]any{&part, &bytes}, func() { sizes[part] = bytes })
	if err != nil {
		return nil, fmt.Errorf("listing parts: %w", err)
	}
	return sizes, nil
}

// Chunk returns the n-th piece of a part; none: the part has no more.
func (s *Store) Chunk(ctx context.Context, part PartID, n int) ([]byte, error) {
	var data []byte
	err := s.queryRow(ctx, `SELECT data FROM upload_chunks WHERE part_id = $1 AND n = $2`, []any{[16]byte(part), n}, &data)
	if errors.Is(err, batch.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading part: %w", err)
	}
	return data, nil
}

const completeUploadSQL = `
UPDATE uploads SET status = 'completed', file_id = $2 WHERE id = $1 AND status = 'pending'`

// FinishUpload makes the file ready that an upload's parts were read into, and
// completes the upload, both or neither. It returns batch.ErrUploadState if the
// upload was completed or cancelled meanwhile.
func (s *Store) FinishUpload(ctx context.Context, id UploadID, file batch.FileID, f batch.FileSummary) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, completeUploadSQL, [16]byte(id), [16]byte(file))
		if err == nil && tag.RowsAffected() == 0 {
			err = uploadRefused(ctx, tx, id, batch.ErrUploadState)
		}
		if err != nil {
			return fmt.Errorf("completing upload: %w", err)
		}
		return finishFile(ctx, tx, file, f)
	})
}

const (
	// An upload that expired has an hour more to be read to its end, should it
	// have been completed in the last minute.
	endedUploadsSQL = `
SELECT id FROM uploads WHERE status <> 'pending' AND NOT purged
 UNION
SELECT id FROM uploads WHERE expires_at <= now() - interval '1 hour'
 LIMIT $1`

	purgeChunksSQL = `
DELETE FROM upload_chunks c USING (
       SELECT k.part_id, k.n FROM upload_parts p JOIN upload_chunks k ON k.part_id = p.id WHERE p.upload_id = $1 LIMIT $2) d
 WHERE c.part_id = d.part_id AND c.n = d.n`

	// A completed one stays for as long as it would have lived, for a client
	// that asks again.
	dropUploadSQL = `
DELETE FROM uploads WHERE id = $1 AND expires_at <= now() - interval '1 hour'`
	emptyUploadSQL = `
WITH gone AS (DELETE FROM upload_parts WHERE upload_id = $1)
UPDATE uploads SET purged = true WHERE id = $1 AND status <> 'pending' AND NOT purged`
)

// maxChunksPurged bounds what one delete removes: chunks are large.
const maxChunksPurged = 64

// EndedUploads lists up to n uploads that wait for a purge.
func (s *Store) EndedUploads(ctx context.Context, n int) ([]UploadID, error) {
	ids, err := collect(ctx, s, pgx.RowTo[[16]byte], endedUploadsSQL, n)
	if err != nil {
		return nil, fmt.Errorf("listing ended uploads: %w", err)
	}
	out := make([]UploadID, len(ids))
	for i, id := range ids {
		out[i] = UploadID(id)
	}
	return out, nil
}

// PurgeUpload removes up to n rows of an upload that EndedUploads listed. It
// returns how many it removed; none: nothing is left to do.
func (s *Store) PurgeUpload(ctx context.Context, id UploadID, n int) (int, error) {
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{purgeChunksSQL, []any{[16]byte(id), min(n, maxChunksPurged)}},
		{dropUploadSQL, []any{[16]byte(id)}},
		{emptyUploadSQL, []any{[16]byte(id)}},
	} {
		removed, err := s.exec(ctx, step.sql, step.args...)
		if err != nil {
			return 0, fmt.Errorf("purging upload: %w", err)
		}
		if removed > 0 {
			return int(removed), nil
		}
	}
	return 0, nil
}
