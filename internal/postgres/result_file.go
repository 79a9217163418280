package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

const deleteOutputsSQL = `
UPDATE batches SET output_deleted_at = CASE WHEN $3 THEN output_deleted_at ELSE now() END,
                   error_deleted_at = CASE WHEN $3 THEN now() ELSE error_deleted_at END
 WHERE id = $2 AND created_by = $1 AND deleted_at IS NULL AND status <> 'in_progress'
   AND CASE WHEN $3 THEN error_deleted_at ELSE output_deleted_at END IS NULL`

// DeleteResultFile hides the output or error file of an owner's batch that has
// finished. It returns batch.ErrNotFound for one that is not there.
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
