package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	endAllDaemonsSQL = `
UPDATE daemons SET status = 'dead', stopped_at = now(), requests_in_flight = 0 WHERE status <> 'dead'`

	// A backoff that has not ended goes on.
	returnAllSQL = `
UPDATE requests SET state = 'pending', daemon_id = NULL, due_at = GREATEST(now(), not_before), not_before = NULL
 WHERE due_at IS NULL`
)

// Recover puts everything that an earlier process left in the middle back to
// pending, at once. It is only for a database and a stream that this process
// has to itself: it assumes that no other daemon lives and that the stream is
// empty. It returns how many requests were returned.
func (s *Store) Recover(ctx context.Context) (int, error) {
	var n int64
	err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, endAllDaemonsSQL); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, returnAllSQL)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("recovering requests: %w", err)
	}
	return int(n), nil
}

const newestBatchSQL = `
SELECT b.id FROM batches b JOIN files f ON f.id = b.file_id
 WHERE f.sha256 = $1 AND f.status = 'ready' AND b.created_by = $2
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
