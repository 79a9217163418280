package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// MaxLines is the most single requests that one call may name.
const MaxLines = 10_000

// Lines says which single requests of a batch have changed, of those that were
// named by their lines. Each named line is in one of the two, in order.
type Lines struct {
	Changed []int32
	// Unchanged are those whose state forbids the move: a cancel of what has
	// ended, a retry of what has completed or has not ended.
	Unchanged []int32
}

const (
	// The lines that exist, of a batch that is not deleted.
	knownLinesSQL = `
SELECT i.line FROM batches b
 CROSS JOIN unnest($2::int[]) AS i (line)
 CROSS JOIN LATERAL (SELECT FROM templates WHERE file_id = b.file_id AND line = i.line LIMIT 1) t
 WHERE b.id = $1`

	// Live ones end as the whole batch's do. A line beyond its cursor gets its
	// result out of turn, and the cursor a hole: the claim will pass over it.
	cancelLinesSQL = `
WITH gone AS (
    DELETE FROM requests WHERE batch_id = $1 AND line = ANY ($2::int[])
    RETURNING line, state, attempt, claim, started_at, routed_model, ` + lastFailureSQL + ` AS cause
), beyond AS MATERIALIZED (
    SELECT t.line, t.model
      FROM batches b
     CROSS JOIN unnest($2::int[]) AS i (line)
     CROSS JOIN LATERAL (SELECT line, model FROM templates WHERE file_id = b.file_id AND line = i.line LIMIT 1) t
     CROSS JOIN LATERAL (SELECT FROM cursors WHERE batch_id = b.id AND model = t.model AND open AND last_line < t.line LIMIT 1) c
     WHERE b.id = $1
       AND (SELECT 1 FROM requests WHERE batch_id = $1 AND line = t.line) IS NULL
       AND (SELECT 1 FROM results WHERE batch_id = $1 AND line = t.line) IS NULL
), holed AS (
    UPDATE cursors c
       SET claimed = c.claimed + h.n, holes = c.holes + h.n, open = c.claimed + h.n + c.skipped < c.total
      FROM (SELECT model, count(*)::int AS n FROM beyond GROUP BY model) h
     WHERE c.batch_id = $1 AND c.model = h.model
), finished AS (
    SELECT line, attempt + (state = 'processing')::int AS attempts, claim, started_at, routed_model, cause FROM gone
     UNION ALL
    SELECT line, 0, 0, NULL, model, NULL FROM beyond
), stored AS (
    INSERT INTO results (batch_id, line, seq, state, attempts, started_at, reason, routed_model, claim, cause)
    SELECT $1, e.line, b.next_seq + (row_number() OVER (ORDER BY e.line)) - 1, 'canceled', e.attempts, e.started_at,
           $3, e.routed_model, e.claim, e.cause
      FROM finished e
     CROSS JOIN LATERAL (SELECT next_seq FROM batches WHERE id = $1 LIMIT 1) b
), counted AS (
    UPDATE batches b
       SET next_seq = b.next_seq + n.canceled, ` + countSQL + `
      FROM (SELECT 0 AS completed, 0 AS failed, count(*)::int AS canceled, 0 AS expired FROM finished) n
     WHERE b.id = $1 AND n.canceled > 0
)
SELECT line FROM finished`
)

// CancelRequests ends single requests of a batch as canceled, wherever in
// their life they are, in one transaction. It returns batch.ErrNotFound, and
// changes nothing, if the batch or one of the lines does not exist.
func (s *Store) CancelRequests(ctx context.Context, id batch.ID, lines []int32) (out Lines, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		status, err := lockBatch(ctx, tx, id)
		if err != nil {
			return err
		}
		if lines, err = checkLines(ctx, tx, id, lines); err != nil {
			return err
		}
		var changed []int32
		if !status.Terminal() {
			if _, err := tx.Exec(ctx, lockLinesSQL, [16]byte(id), lines); err != nil {
				return err
			}
			rows, _ := tx.Query(ctx, cancelLinesSQL, [16]byte(id), lines, string(batch.BatchCancelled))
			if changed, err = pgx.CollectRows(rows, pgx.RowTo[int32]); err != nil {
				return err
			}
		}
		out = sortLines(lines, changed)
		return nil
	})
	if err != nil {
		return Lines{}, fmt.Errorf("cancelling requests of %s: %w", id, err)
	}
	return out, nil
}

// checkLines returns the lines in order, each once, or an error that names one
// which the batch does not have.
func checkLines(ctx context.Context, tx pgx.Tx, id batch.ID, lines []int32) ([]int32, error) {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	lines = slices.Compact(lines)
	if len(lines) > MaxLines {
		return nil, &batch.TooManyError{What: "lines in one call", Limit: MaxLines}
	}
	rows, _ := tx.Query(ctx, knownLinesSQL, [16]byte(id), lines)
	known, err := pgx.CollectRows(rows, pgx.RowTo[int32])
	if err != nil {
		return nil, err
	}
	if unknown := without(lines, known); len(unknown) > 0 {
		return nil, &batch.NoLineError{Line: unknown[0]}
	}
	return lines, nil
}

func sortLines(lines, changed []int32) Lines {
	slices.Sort(changed)
	return Lines{Changed: changed, Unchanged: without(lines, changed)}
}

// without returns the lines that are not among the others.
func without(lines, others []int32) (out []int32) {
	taken := make(map[int32]bool, len(others))
	for _, l := range others {
		taken[l] = true
	}
	for _, l := range lines {
		if !taken[l] {
			out = append(out, l)
		}
	}
	return out
}
