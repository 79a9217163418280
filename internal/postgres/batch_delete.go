package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	// The idempotency key is free again, and the batch no longer answers to it.
	deleteBatchSQL = `UPDATE batches SET deleted_at = now(), idempotency_key = NULL WHERE id = $1`

	deleteFileSQL = `
UPDATE files SET status = 'deleted', deleted_at = now() WHERE id = $1 AND status = 'ready'`

	// All of them at once and in order, as finishes lock batches.
	lockLiveBatchesSQL = `
SELECT id FROM batches WHERE file_id = $1 AND status = 'in_progress' ORDER BY id FOR NO KEY UPDATE`
	cancellingAllSQL = `
UPDATE batches SET cancelling_at = clock_timestamp() WHERE id = ANY ($1::uuid[]) AND cancelling_at IS NULL`
)

// DeleteBatch hides a batch from all readers, and cancels it first if it has
// not finished; the two are one transaction unless the batch has very many live
// requests, see CancelBatch. Its rows are removed by the next purge. It returns
// whether the batch was cancelled, or batch.ErrNotFound.
func (s *Store) DeleteBatch(ctx context.Context, id batch.ID) (cancelled bool, err error) {
	err = s.cancel(ctx, id, func(ctx context.Context, tx pgx.Tx, _ batch.Status, now bool) error {
		cancelled = now
		_, err := tx.Exec(ctx, deleteBatchSQL, [16]byte(id))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("deleting %s: %w", id, err)
	}
	return cancelled, nil
}

// DeleteFile deletes a file that was finished, and cancels its batches in
// progress; it returns those. The next purge erases the requests' bodies. The
// results of its batches can be read until those are deleted too, but no request
// of them can be rerun.
//
// A crash in the middle leaves a deleted file with batches that are being
// cancelled, which ResumeCancels finishes. After an error it returns the batches
// that are cancelled by then.
//
// It returns batch.ErrNotFound for a file that is unknown, not finished or
// deleted.
func (s *Store) DeleteFile(ctx context.Context, id batch.FileID) (cancelled []batch.ID, err error) {
	var live [][16]byte
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, deleteFileSQL, [16]byte(id))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return batch.ErrNotFound
		}
		// The file's row is locked: no batch of it can be created any more.
		rows, _ := tx.Query(ctx, lockLiveBatchesSQL, [16]byte(id))
		if live, err = pgx.CollectRows(rows, pgx.RowTo[[16]byte]); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, cancellingAllSQL, live)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("deleting %s: %w", id, err)
	}
	var failed []error
	for _, raw := range live {
		err := s.cancel(ctx, batch.ID(raw), func(_ context.Context, _ pgx.Tx, _ batch.Status, now bool) error {
			if now {
				cancelled = append(cancelled, batch.ID(raw))
			}
			return nil
		})
		if err != nil && !errors.Is(err, batch.ErrNotFound) { // deleted since
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return cancelled, fmt.Errorf("deleting %s: %w", id, err)
	}
	return cancelled, nil
}
