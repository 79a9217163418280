package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

const newestBatchSQL = `
SELECT b.id FROM batches b JOIN files f ON f.id = b.file_id
 WHERE f.sha256 = $1 AND f.status = 'ready' AND b.created_by = $2 AND b.deleted_at IS NULL
 ORDER BY b.created_at DESC LIMIT 1`

// NewestBatch returns this creator's newest batch of a file with exactly this
// content, or batch.ErrNotFound.
func (s *Store) NewestBatch(ctx context.Context, sha256 [32]byte, createdBy string) (batch.ID, error) {
	var id [16]byte
	if err := s.queryRow(ctx, newestBatchSQL, []any{sha256[:], createdBy}, &id); err != nil {
		return batch.ID{}, fmt.Errorf("looking for batch: %w", err)
	}
	return batch.ID(id), nil
}
