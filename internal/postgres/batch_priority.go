package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	setPrioritySQL = `UPDATE batches SET priority = $2 WHERE id = $1`
	// Cursors have a copy, by which claims are ordered.
	setCursorPrioritySQL = `UPDATE cursors SET priority = $2 WHERE batch_id = $1`
)

// SetBatchPriority gives a batch another priority, from -batch.MaxPriority to
// batch.MaxPriority, which holds from the next claim on. What is claimed already
// keeps its place.
//
// It returns batch.ErrNotFound, or a *batch.BatchFinishedError for a batch that
// has finished.
func (s *Store) SetBatchPriority(ctx context.Context, id batch.ID, priority int) error {
	err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		status, err := lockBatch(ctx, tx, id)
		if err != nil {
			return err
		}
		if status.Terminal() {
			return &batch.BatchFinishedError{Status: status}
		}
		if _, err := tx.Exec(ctx, setPrioritySQL, [16]byte(id), priority); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, setCursorPrioritySQL, [16]byte(id), priority)
		return err
	})
	if err != nil {
		return fmt.Errorf("setting the priority of %s: %w", id, err)
	}
	return nil
}
