package postgres

import (
	"context"
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
)

// DeleteBatch hides a batch from all readers, and cancels it first if it has
// not ended, in one transaction. Its rows are removed by the next purge. It
// returns whether the batch was cancelled, or batch.ErrNotFound.
func (s *Store) DeleteBatch(ctx context.Context, id batch.ID) (cancelled bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		status, err := lockBatch(ctx, tx, id)
		if err != nil {
			return err
		}
		if !status.Terminal() {
			cancelled = true
			if _, err := endBatch(ctx, tx, id, batch.Canceled); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, deleteBatchSQL, [16]byte(id))
		return err
	})
	if err != nil {
		return false, fmt.Errorf("deleting %s: %w", id, err)
	}
	return cancelled, nil
}

// DeleteFile deletes a file that was finished, and cancels its batches in
// progress, in one transaction; it returns those. The next purge erases the
// requests' bodies. The results of its batches can be read until those are
// deleted too, but no request of them can be retried.
//
// It returns batch.ErrNotFound for a file that is unknown, not finished or
// deleted.
func (s *Store) DeleteFile(ctx context.Context, id batch.FileID) (cancelled []batch.ID, err error) {
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
		ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		if err != nil {
			return err
		}
		for _, raw := range ids {
			live := batch.ID(raw)
			if _, err := tx.Exec(ctx, lockCursorsSQL, raw); err != nil {
				return err
			}
			if _, err := endBatch(ctx, tx, live, batch.Canceled); err != nil {
				return err
			}
			cancelled = append(cancelled, live)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("deleting %s: %w", id, err)
	}
	return cancelled, nil
}
