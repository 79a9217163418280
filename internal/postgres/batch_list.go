package postgres

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// OwnedBatch is a batch as its owner sees it.
type OwnedBatch struct {
	ID               batch.ID
	File             batch.FileID
	Endpoint         string
	CompletionWindow string
	Metadata         map[string]string
	Status           batch.Status
	CreatedAt        time.Time
	ExpiresAt        time.Time
	FinishedAt       time.Time // zero: not yet
	CancellingAt     time.Time // zero: it was not cancelled

	Total, Completed, Failed, Canceled, Expired int64

	OutputExpiresAt time.Time // zero: never, or not known before the batch ends
	OutputDeleted   bool
	ErrorsDeleted   bool

	Usage []ModelUsage // by model

	HasOwnKey bool // its calls bear an API key of its own
}

// Unsuccessful is the number of lines of the error file.
func (b *OwnedBatch) Unsuccessful() int64 { return b.Failed + b.Canceled + b.Expired }

const ownedBatchColumns = `
SELECT id, file_id, endpoint, completion_window, metadata, status, created_at, expires_at,
       COALESCE(finished_at, '0001-01-01Z'), COALESCE(cancelling_at, '0001-01-01Z'),
       total, completed, failed, canceled, expired,
       COALESCE(finished_at + output_expires_after, '0001-01-01Z'),
       output_deleted_at IS NOT NULL OR (finished_at + output_expires_after <= now()) IS true,
       error_deleted_at IS NOT NULL OR (finished_at + output_expires_after <= now()) IS true,
       brings_key, ` + usageSQL + `
  FROM batches
 WHERE created_by = $1 AND deleted_at IS NULL`

const (
	ownedBatchSQL    = ownedBatchColumns + ` AND id = $2`
	ownedBatchesSQL  = ownedBatchColumns + ` AND id < $2 ORDER BY id DESC LIMIT $3`
	deleteOutputsSQL = `
UPDATE batches SET output_deleted_at = CASE WHEN $3 THEN output_deleted_at ELSE now() END,
                   error_deleted_at = CASE WHEN $3 THEN now() ELSE error_deleted_at END
 WHERE id = $2 AND created_by = $1 AND deleted_at IS NULL AND status <> 'in_progress'
   AND CASE WHEN $3 THEN error_deleted_at ELSE output_deleted_at END IS NULL`
)

// GetOwnedBatch returns an owner's batch, or batch.ErrNotFound.
func (s *Store) GetOwnedBatch(ctx context.Context, owner string, id batch.ID) (OwnedBatch, error) {
	found, err := s.ownedBatches(ctx, ownedBatchSQL, owner, [16]byte(id))
	if err != nil {
		return OwnedBatch{}, fmt.Errorf("reading batch: %w", err)
	}
	if len(found) == 0 {
		return OwnedBatch{}, fmt.Errorf("reading batch: %w", batch.ErrNotFound)
	}
	return found[0], nil
}

// ListOwnedBatches returns up to n of an owner's batches, newest first, from
// the one that follows after; the zero id precedes all.
func (s *Store) ListOwnedBatches(ctx context.Context, owner string, after batch.ID, n int) ([]OwnedBatch, error) {
	if after == (batch.ID{}) {
		after = batch.ID(bytes.Repeat([]byte{0xff}, 16))
	}
	list, err := s.ownedBatches(ctx, ownedBatchesSQL, owner, [16]byte(after), n)
	if err != nil {
		return nil, fmt.Errorf("listing batches: %w", err)
	}
	return list, nil
}

func (s *Store) ownedBatches(ctx context.Context, sql string, args ...any) ([]OwnedBatch, error) {
	return collect(ctx, s, func(row pgx.CollectableRow) (b OwnedBatch, err error) {
		err = row.Scan((*[16]byte)(&b.ID), (*[16]byte)(&b.File), &b.Endpoint, &b.CompletionWindow, &b.Metadata, &b.Status,
			&b.CreatedAt, &b.ExpiresAt, &b.FinishedAt, &b.CancellingAt,
			&b.Total, &b.Completed, &b.Failed, &b.Canceled, &b.Expired,
			&b.OutputExpiresAt, &b.OutputDeleted, &b.ErrorsDeleted, &b.HasOwnKey, &b.Usage)
		for _, t := range []*time.Time{&b.FinishedAt, &b.CancellingAt, &b.OutputExpiresAt} {
			*t = t.UTC()
		}
		return b, err
	}, sql, args...)
}

// DeleteResultFile hides the output or error file of an owner's batch that has
// ended. It returns batch.ErrNotFound for one that is not there.
func (s *Store) DeleteResultFile(ctx context.Context, owner string, f batch.ResultFile) error {
	n, err := s.exec(ctx, deleteOutputsSQL, owner, [16]byte(f.Batch), f.Errors)
	if err != nil {
		return fmt.Errorf("deleting file: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("deleting file: %w", batch.ErrNotFound)
	}
	return nil
}
