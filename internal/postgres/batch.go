package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

// NewBatch is what a batch is created from.
type NewBatch struct {
	File             batch.FileID
	Endpoint         string // empty: the file's own
	CompletionWindow time.Duration
	WindowText       string // as the user wrote it, such as 24h
	Metadata         map[string]string
	CreatedBy        string
	IdempotencyKey   string // empty: none
	// EncryptKey encrypts the API key that the batch brings for its calls; nil: it
	// brings none. Only CreateOwnedBatch takes one.
	EncryptKey func(batch.ID) ([]byte, error)
}

// Batch is a batch with its counters.
type Batch struct {
	ID               batch.ID
	File             batch.FileID
	Endpoint         string
	CompletionWindow string
	Metadata         map[string]string
	CreatedBy        string
	Status           batch.Status
	CreatedAt        time.Time
	ExpiresAt        time.Time
	FinishedAt       time.Time // zero: not yet
	CancellingAt     time.Time // zero: was not cancelled
	Counts           batch.Counts
}

// One row per model of the file, whatever the number of requests. The batch
// is inserted only from a ready file; an idempotency key that is taken
// inserts nothing. The lock keeps the file from being deleted meanwhile, so that
// whoever deletes it finds all of its batches.
const createBatchSQL = `
WITH b AS (
    INSERT INTO batches (id, file_id, endpoint, completion_window, expires_at, metadata, created_by, idempotency_key, total)
    SELECT $1, f.id, COALESCE(NULLIF($3, ''), f.endpoint), $4, now() + $5::interval, $6::jsonb, $7, NULLIF($8, ''), f.requests
      FROM files f
     WHERE f.id = $2 AND f.status = 'ready'
       FOR SHARE
    ON CONFLICT (created_by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, file_id
), c AS (
    INSERT INTO cursors (batch_id, model, file_id, total)
    SELECT b.id, m.model, m.file_id, m.requests FROM b JOIN file_models m ON m.file_id = b.file_id
)
SELECT id FROM b`

// args are the parameters of createBatchSQL, with a new id.
func (n *NewBatch) args() ([]any, error) {
	metadata := n.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	encoded, err := json.Marshal(metadata)
	return []any{newID(), [16]byte(n.File), n.Endpoint, n.WindowText, n.CompletionWindow, encoded, n.CreatedBy, n.IdempotencyKey}, err
}

const batchByKeySQL = `SELECT id FROM batches WHERE created_by = $1 AND idempotency_key = $2`

// CreateBatch makes every request of the file pending, in time proportional
// to the number of models in it. Under an idempotency key that this creator
// has used before, it returns the batch made then, and false. A file that is
// not ready is batch.ErrNotFound.
func (s *Store) CreateBatch(ctx context.Context, n NewBatch) (batch.ID, bool, error) {
	args, err := n.args()
	if err != nil {
		return batch.ID{}, false, fmt.Errorf("creating batch: %w", err)
	}
	var id [16]byte
	err = s.queryRow(ctx, createBatchSQL, args, &id)
	if err == nil {
		return batch.ID(id), true, nil
	}
	if !errors.Is(err, batch.ErrNotFound) || n.IdempotencyKey == "" {
		return batch.ID{}, false, fmt.Errorf("creating batch: %w", err)
	}
	found, err := s.FindBatch(ctx, n.CreatedBy, n.IdempotencyKey)
	return found, false, err
}

// FindBatch returns the batch that was created under an idempotency key, or
// batch.ErrNotFound.
func (s *Store) FindBatch(ctx context.Context, createdBy, idempotencyKey string) (batch.ID, error) {
	var id [16]byte
	if err := s.queryRow(ctx, batchByKeySQL, []any{createdBy, idempotencyKey}, &id); err != nil {
		return batch.ID{}, fmt.Errorf("looking for batch: %w", err)
	}
	return batch.ID(id), nil
}

const getBatchSQL = `
SELECT b.file_id, b.endpoint, b.completion_window, b.metadata, b.created_by, b.status, b.created_at, b.expires_at,
       COALESCE(b.finished_at, '-infinity'::timestamptz) = '-infinity', COALESCE(b.finished_at, b.created_at), b.cancelling_at,
       b.total, b.completed, b.failed, b.canceled, b.expired, c.claimed, c.skipped
  FROM batches b
 CROSS JOIN LATERAL (SELECT sum(claimed)::bigint AS claimed, sum(skipped)::bigint AS skipped
                       FROM cursors WHERE batch_id = b.id) c
 WHERE b.id = $1 AND b.deleted_at IS NULL`

// GetBatch reads a batch and its counters in one snapshot, in time
// proportional to the number of its models. It returns batch.ErrNotFound.
func (s *Store) GetBatch(ctx context.Context, id batch.ID) (Batch, error) {
	b := Batch{ID: id}
	var file [16]byte
	var unfinished bool
	var cancelling *time.Time
	var claimed, skipped int64
	err := s.queryRow(ctx, getBatchSQL, []any{[16]byte(id)}, &file, &b.Endpoint, &b.CompletionWindow, &b.Metadata,
		&b.CreatedBy, &b.Status, &b.CreatedAt, &b.ExpiresAt, &unfinished, &b.FinishedAt, &cancelling,
		&b.Counts.Total, &b.Counts.Completed, &b.Counts.Failed, &b.Counts.Canceled, &b.Counts.Expired, &claimed, &skipped)
	if err != nil {
		return Batch{}, fmt.Errorf("reading batch: %w", err)
	}
	b.File = batch.FileID(file)
	if unfinished {
		b.FinishedAt = time.Time{}
	}
	if cancelling != nil {
		b.CancellingAt = *cancelling
	}
	b.Counts.Pending = b.Counts.Total - claimed - skipped
	b.Counts.InProgress = claimed + skipped - b.Counts.Done()
	return b, nil
}
