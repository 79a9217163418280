package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// The locks of everything that changes a batch from outside: first its row,
// which finishes take too, then its cursors, which waits for claims in
// progress and keeps others off, then its live rows in the order of their
// lines, as starts and returns lock them. The statement that follows has a
// snapshot in which all of that has settled.
const (
	lockBatchSQL = `
SELECT b.status, b.deleted_at IS NOT NULL FROM batches b WHERE b.id = $1 FOR NO KEY UPDATE`
	lockCursorsSQL = `SELECT FROM cursors WHERE batch_id = $1 ORDER BY model FOR UPDATE`
	lockLiveSQL    = `SELECT FROM requests WHERE batch_id = $1 ORDER BY line FOR UPDATE`
	lockLinesSQL   = `SELECT FROM requests WHERE batch_id = $1 AND line = ANY ($2::int[]) ORDER BY line FOR UPDATE`
)

// Ends the live requests of a batch as $2 for reason $3, those that are
// processing only if $4, and every line beyond its cursors, and counts all of
// them at once. Lines beyond cursors get no row: their places in the output are
// reserved, in the order of lines, after those of the live ones.
//
// So the cost follows what is live, and not what is left.
const endBatchSQL = `
WITH gone AS (
    DELETE FROM requests WHERE batch_id = $1 AND ($4 OR state <> 'processing')
    RETURNING line, state, attempt, claim, started_at, routed_model
), closed AS (
    UPDATE cursors SET skipped = total - claimed, open = false WHERE batch_id = $1 AND open
    RETURNING skipped, last_line
), n AS (
    SELECT (SELECT count(*) FROM gone)::int AS live, COALESCE(sum(skipped), 0)::int AS skipped, min(last_line) + 1 AS first
      FROM closed
), stored AS (
    INSERT INTO results (batch_id, line, seq, state, attempts, started_at, reason, routed_model, claim)
    SELECT $1, g.line, b.next_seq + (row_number() OVER (ORDER BY g.line))::int - 1, $2::request_state,
           g.attempt + (g.state = 'processing')::int, g.started_at, $3, g.routed_model, g.claim
      FROM gone g
     CROSS JOIN LATERAL (SELECT next_seq FROM batches WHERE id = $1 LIMIT 1) b
), m AS (
    SELECT b.next_seq + n.live AS seq, n.*, n.live + n.skipped AS ended,
           b.completed + b.failed + b.canceled + b.expired + n.live + n.skipped < b.total AS unfinished,
           CASE WHEN n.skipped > 0 THEN (
                SELECT line FROM templates WHERE file_id = b.file_id ORDER BY file_id DESC, line DESC LIMIT 1) END AS last
      FROM n CROSS JOIN batches b WHERE b.id = $1
)
UPDATE batches b
   SET canceled = b.canceled + CASE WHEN $2 = 'canceled' THEN m.ended ELSE 0 END,
       expired = b.expired + CASE WHEN $2 = 'expired' THEN m.ended ELSE 0 END,
       next_seq = m.seq + CASE WHEN m.skipped > 0 THEN m.last - m.first + 1 ELSE 0 END,
       skipped_as = CASE WHEN m.skipped > 0 THEN $2::request_state ELSE b.skipped_as END,
       skip_seq = CASE WHEN m.skipped > 0 THEN m.seq ELSE b.skip_seq END,
       skip_line = CASE WHEN m.skipped > 0 THEN m.first ELSE b.skip_line END,
       skip_end = CASE WHEN m.skipped > 0 THEN m.seq + m.last - m.first + 1 ELSE b.skip_end END,
       status = CASE WHEN m.unfinished THEN b.status WHEN $2 = 'canceled' THEN 'cancelled'
                     WHEN b.expired + m.ended > 0 THEN 'expired' ELSE b.status END,
       cancelling_at = CASE WHEN $2 = 'canceled' THEN clock_timestamp() ELSE b.cancelling_at END,
       finished_at = CASE WHEN m.unfinished THEN NULL ELSE clock_timestamp() END
  FROM m
 WHERE b.id = $1 AND m.ended > 0
RETURNING m.ended`

// CancelBatch ends every request of a batch that has not ended, in one
// transaction: when it returns, the batch is cancelled, its counters are exact
// and nothing of it is claimed, started or finished any more. Calls in flight
// are for the caller to abort; what comes of them is fenced off.
//
// It returns batch.ErrNotFound, or a *batch.BatchFinishedError for a batch that has finished.
func (s *Store) CancelBatch(ctx context.Context, id batch.ID) (Batch, error) {
	err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		status, err := lockBatch(ctx, tx, id)
		if err != nil {
			return err
		}
		if status.Terminal() {
			return &batch.BatchFinishedError{Status: status}
		}
		_, err = endBatch(ctx, tx, id, batch.Canceled)
		return err
	})
	if err != nil {
		return Batch{}, fmt.Errorf("cancelling %s: %w", id, err)
	}
	return s.GetBatch(ctx, id, nil)
}

// lockBatch locks a batch that is not deleted, and its cursors.
func lockBatch(ctx context.Context, tx pgx.Tx, id batch.ID) (status batch.Status, err error) {
	var deleted bool
	if err := tx.QueryRow(ctx, lockBatchSQL, [16]byte(id)).Scan(&status, &deleted); err != nil {
		return "", translate(err)
	}
	if deleted {
		return "", batch.ErrNotFound
	}
	_, err = tx.Exec(ctx, lockCursorsSQL, [16]byte(id))
	return status, err
}

// endBatch ends what is left of a locked batch: all of it as canceled, or what
// is not processing as expired. It returns how many requests it ended.
func endBatch(ctx context.Context, tx pgx.Tx, id batch.ID, as batch.State) (ended int, err error) {
	reason := batch.BatchCancelled
	if as == batch.Expired {
		reason = batch.BatchExpired
	}
	if _, err := tx.Exec(ctx, lockLiveSQL, [16]byte(id)); err != nil {
		return 0, err
	}
	err = tx.QueryRow(ctx, endBatchSQL, [16]byte(id), string(as), string(reason), as == batch.Canceled).Scan(&ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return ended, err
}
