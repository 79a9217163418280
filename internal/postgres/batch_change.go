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

// BatchChange is what is to change about a batch; what is nil stays as it is.
type BatchChange struct {
	// Priority is from -batch.MaxPriority to batch.MaxPriority. It holds from the
	// next claim on: what is claimed already keeps its place.
	Priority *int
	// Budget is the new one, with its prices; the zero Budget: none. One that is
	// spent already ends what is not being called. What ended because of the former
	// one stays so until it is rerun.
	Budget *batch.Budget
}

// ChangeBatch changes a batch. It reports whether requests of it are to be canceled,
// because the new budget is spent already: that is for EndOverBudget.
//
// The budget of a batch that has finished may be changed too, for a rerun. It returns
// batch.ErrNotFound, or a *batch.BatchFinishedError for another change of such a one,
// and then nothing has changed.
func (s *Store) ChangeBatch(ctx context.Context, id batch.ID, c BatchChange) (spent bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		spent = false
		status, err := lockBatch(ctx, tx, id)
		if err != nil {
			return err
		}
		if status.Terminal() && c.Priority != nil {
			return &batch.BatchFinishedError{Status: status}
		}
		if c.Priority != nil {
			if _, err := tx.Exec(ctx, setPrioritySQL, [16]byte(id), *c.Priority); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, setCursorPrioritySQL, [16]byte(id), *c.Priority); err != nil {
				return err
			}
		}
		if c.Budget != nil {
			spent, err = setBudget(ctx, tx, id, *c.Budget)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("changing %s: %w", id, err)
	}
	return spent, nil
}
