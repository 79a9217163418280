package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	// Creations of one owner take turns, so that none overlooks another when
	// the allowance is checked.
	lockOwnerSQL = `SELECT pg_advisory_xact_lock(hashtextextended('fusillade batches of ' || $1, 0))`
	newFileSQL   = `
SELECT requests FROM files
 WHERE id = $1 AND created_by = $2 AND status = 'ready' AND (expires_at > now()) IS NOT false`
	// As many rows as the owner has batches in progress.
	inProgressSQL = `
SELECT count(*), COALESCE(sum(total - completed - failed - canceled - expired), 0)::bigint
  FROM batches WHERE created_by = $1 AND status = 'in_progress'`
	setOutputExpirySQL = `UPDATE batches SET output_expires_after = $2::interval WHERE id = $1`
)

// CreateOwnedBatch is CreateBatch for a file of the batch's own creator, within
// what that may have in progress, else *batch.AllowanceError. outputExpiry is
// how long after its end the output can be read; 0: for ever.
func (s *Store) CreateOwnedBatch(ctx context.Context, n NewBatch, outputExpiry time.Duration, a batch.Allowance) (id batch.ID, created bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockOwnerSQL, n.CreatedBy); err != nil {
			return err
		}
		if n.IdempotencyKey != "" {
			err := tx.QueryRow(ctx, batchByKeySQL, n.CreatedBy, n.IdempotencyKey).Scan((*[16]byte)(&id))
			if !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		var requests, queued int64
		var active int
		if err := tx.QueryRow(ctx, newFileSQL, [16]byte(n.File), n.CreatedBy).Scan(&requests); err != nil {
			return translate(err)
		}
		if err := tx.QueryRow(ctx, inProgressSQL, n.CreatedBy).Scan(&active, &queued); err != nil {
			return err
		}
		if err := a.Check(active, queued, requests); err != nil {
			return err
		}
		args, err := n.args()
		if err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, createBatchSQL, args...).Scan((*[16]byte)(&id)); err != nil {
			return translate(err)
		}
		created = true
		if n.EncryptKey != nil {
			if err := bringKey(ctx, tx, id, n.EncryptKey); err != nil {
				return err
			}
		}
		if outputExpiry == 0 {
			return nil
		}
		_, err = tx.Exec(ctx, setOutputExpirySQL, [16]byte(id), outputExpiry)
		return err
	})
	if err != nil {
		return batch.ID{}, false, fmt.Errorf("creating batch: %w", err)
	}
	return id, created, nil
}
