package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// countSQL moves the counters of a batch b by the columns completed, failed,
// canceled and expired of n, and gives it its final status with its last
// request. It is the one place that says which: cancelled if the batch was
// cancelled, or its budget was spent, and that finished a request, else expired if any request expired,
// else completed if any completed, else failed if any failed.
const (
	countSQL = `
           completed = b.completed + n.completed, failed = b.failed + n.failed,
           canceled = b.canceled + n.canceled, expired = b.expired + n.expired,
           status = CASE WHEN ` + unfinishedSQL + ` THEN b.status
                         WHEN COALESCE(b.cancelling_at, b.budget_exceeded_at) IS NOT NULL AND b.canceled + n.canceled > 0 THEN 'cancelled'
                         WHEN b.expired + n.expired > 0 THEN 'expired'
                         WHEN b.completed + n.completed > 0 THEN 'completed'
                         WHEN b.failed + n.failed > 0 THEN 'failed' ELSE 'cancelled' END,
           finished_at = CASE WHEN ` + unfinishedSQL + ` THEN NULL ELSE clock_timestamp() END`
	unfinishedSQL = `b.completed + b.failed + b.canceled + b.expired + n.completed + n.failed + n.canceled + n.expired < b.total`
)

// The locks of everything that changes a batch from outside: first its row,
// which finishes take too, then its cursors, which waits for claims in
// progress and keeps others off, then its live rows in the order of their
// lines, as starts and releases lock them. The statement that follows has a
// snapshot in which all of that has settled.
const (
	lockBatchSQL = `
SELECT b.status, b.deleted_at IS NOT NULL FROM batches b WHERE b.id = $1 FOR NO KEY UPDATE`
	lockCursorsSQL = `SELECT FROM cursors WHERE batch_id = $1 ORDER BY model FOR UPDATE`
	lockLiveSQL    = `
SELECT line FROM requests WHERE batch_id = $1 AND ($2 OR state <> 'processing') ORDER BY line LIMIT $3 FOR UPDATE`
	lockLinesSQL = `SELECT FROM requests WHERE batch_id = $1 AND line = ANY ($2::int[]) ORDER BY line FOR UPDATE`
)

// finishSliceSQL finishes the live requests of a batch that have the lines $4
// as $2 for reason $3, and every line beyond its cursors, and counts all of them
// at once. Lines beyond cursors get no row: their places in the output are
// reserved, in the order of lines, after those of the live ones.
//
// So the cost follows what is live, and not what is left.
const finishSliceSQL = `
WITH gone AS (
    DELETE FROM requests WHERE batch_id = $1 AND line = ANY ($4::int[])
    RETURNING line, state, attempt, claim, started_at, routed_model, ` + lastFailureSQL + ` AS cause
), closed AS (
    UPDATE cursors SET skipped = total - claimed, open = false WHERE batch_id = $1 AND open
    RETURNING skipped, last_line
), stored AS (
    INSERT INTO results (batch_id, line, seq, state, attempts, started_at, reason, routed_model, claim, cause)
    SELECT $1, g.line, b.next_seq + (row_number() OVER (ORDER BY g.line)) - 1, $2::request_state,
           g.attempt + (g.state = 'processing')::int, g.started_at, $3, g.routed_model, g.claim, g.cause
      FROM gone g
     CROSS JOIN LATERAL (SELECT next_seq FROM batches WHERE id = $1 LIMIT 1) b
), m AS (
    SELECT (SELECT count(*) FROM gone)::int AS live, COALESCE(sum(skipped), 0)::int AS skipped, min(last_line) + 1 AS first
      FROM closed
), n AS (
    SELECT m.*, b.next_seq + m.live AS seq, 0 AS completed, 0 AS failed,
           CASE WHEN $2 = 'canceled' THEN m.live + m.skipped ELSE 0 END AS canceled,
           CASE WHEN $2 = 'expired' THEN m.live + m.skipped ELSE 0 END AS expired,
           CASE WHEN m.skipped = 0 THEN 0 ELSE 1 - m.first + (
                SELECT line FROM templates WHERE file_id = b.file_id ORDER BY file_id DESC, line DESC LIMIT 1) END AS reserved
      FROM m CROSS JOIN batches b WHERE b.id = $1
)
UPDATE batches b
   SET next_seq = n.seq + n.reserved,
       skipped_as = CASE WHEN n.skipped > 0 THEN $2::request_state ELSE b.skipped_as END,
       skip_reason = CASE WHEN n.skipped > 0 THEN $3 ELSE b.skip_reason END,
       skip_seq = CASE WHEN n.skipped > 0 THEN n.seq ELSE b.skip_seq END,
       skip_line = CASE WHEN n.skipped > 0 THEN n.first ELSE b.skip_line END,
       skip_end = CASE WHEN n.skipped > 0 THEN n.seq + n.reserved ELSE b.skip_end END, ` + countSQL + `
  FROM n
 WHERE b.id = $1 AND n.live + n.skipped > 0
RETURNING n.live + n.skipped, b.status`

// lastFailureSQL is the cause of a request that ends from outside: its last
// failure, which would be lost with its row.
const lastFailureSQL = `CASE WHEN last_reason IS NOT NULL THEN
           'its last call ended with ' || last_reason || COALESCE(' (status ' || last_status || ')', '') || COALESCE(': ' || last_cause, '') END`

// sliceRequests is how many live requests one transaction finishes. Those of a
// batch may be a million, after a rerun; what others wait for is bounded by
// this.
const sliceRequests = 10_000

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

// slice says what a transaction has finished of a batch.
type slice struct {
	finished int
	full     bool // there may be more live requests
	status   batch.Status
}

// outsideEnd is how what is left of a batch ends from outside.
type outsideEnd struct {
	state  batch.State
	reason batch.Reason
	all    bool // also what is being called
}

var (
	asCancelled  = outsideEnd{batch.Canceled, batch.BatchCancelled, true}
	asExpired    = outsideEnd{batch.Expired, batch.BatchExpired, false}
	asOverBudget = outsideEnd{batch.Canceled, batch.BudgetExceeded, false}
)

// finishSlice finishes up to sliceRequests live requests of a locked batch in
// progress, and all lines beyond its cursors.
func (s *Store) finishSlice(ctx context.Context, tx pgx.Tx, id batch.ID, as outsideEnd) (done slice, err error) {
	rows, _ := tx.Query(ctx, lockLiveSQL, [16]byte(id), as.all, s.slice)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return done, err
	}
	done.full, done.status = len(lines) == s.slice, batch.StatusInProgress
	err = tx.QueryRow(ctx, finishSliceSQL, [16]byte(id), string(as.state), string(as.reason), lines).Scan(&done.finished, &done.status)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil // there was nothing
	}
	return done, err
}
