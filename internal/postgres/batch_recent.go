package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// BatchProgress is how far a batch is.
type BatchProgress struct {
	ID                 batch.ID
	Owner              string
	CreatedAt          time.Time
	Completed          int64
	Unsuccessful       int64 // failed, canceled or expired
	InTokens, OutToken int64
}

// maxRecent bounds what RecentProgress reads.
const maxRecent = 20_000

const recentProgressSQL = `
SELECT b.id, b.created_by, b.created_at, b.completed, b.failed + b.canceled + b.expired, COALESCE(u.input, 0)::bigint, COALESCE(u.output, 0)::bigint
  FROM (SELECT * FROM (SELECT id, created_by, created_at, completed, failed, canceled, expired FROM batches
                        WHERE status = 'in_progress' AND expires_at > '-infinity' ORDER BY expires_at LIMIT $2) live
         UNION ALL
        SELECT * FROM (SELECT id, created_by, created_at, completed, failed, canceled, expired FROM batches
                        WHERE finished_at > now() - $1::interval ORDER BY finished_at DESC LIMIT $2) finished) b
  LEFT JOIN LATERAL (SELECT sum(input_tokens) AS input, sum(output_tokens) AS output FROM batch_usage WHERE batch_id = b.id) u ON true`

// RecentProgress returns how far the batches are that are in progress, and those
// that have finished since; 20,000 of each at most, those with the earliest
// deadline and the latest end.
func (s *Store) RecentProgress(ctx context.Context, since time.Duration) ([]BatchProgress, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (p BatchProgress, err error) {
		err = row.Scan((*[16]byte)(&p.ID), &p.Owner, &p.CreatedAt, &p.Completed, &p.Unsuccessful, &p.InTokens, &p.OutToken)
		return p, err
	}, recentProgressSQL, since, maxRecent)
	if err != nil {
		return nil, fmt.Errorf("reading how far batches are: %w", err)
	}
	return list, nil
}

const (
	soonestSQL = `
SELECT id FROM (
    SELECT id, expires_at FROM batches WHERE status = 'in_progress' AND deleted_at IS NULL AND created_by = $1 OFFSET 0) b
 ORDER BY expires_at LIMIT $2`
	soonestAllSQL = `
SELECT id FROM batches WHERE status = 'in_progress' AND deleted_at IS NULL AND $1 = '' ORDER BY expires_at LIMIT $2`
)

// SoonestBatches returns up to n batches in progress of an owner, or of all if it is
// empty, those with the earliest deadline.
func (s *Store) SoonestBatches(ctx context.Context, owner string, n int) ([]Batch, error) {
	sql := soonestAllSQL
	if owner != "" {
		sql = soonestSQL
	}
	ids, err := collect(ctx, s, pgx.RowTo[[16]byte], sql, owner, n)
	if err != nil || len(ids) == 0 {
		return nil, wrap("listing batches in progress", err)
	}
	list, err := collect(ctx, s, scanBatch, batchesByIDSQL, ids)
	return list, wrap("listing batches in progress", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// FailureCount is how many requests failed in one way.
type FailureCount struct {
	Reason     batch.Reason
	StatusCode int // 0: there was no response
	Count      int64
}

const (
	failuresSQL = `
SELECT f.reason, COALESCE(f.status_code, 0), count(*)
  FROM unnest($1::uuid[]) AS b (id)
 CROSS JOIN LATERAL (
       SELECT reason, status_code, finished_at FROM results
        WHERE batch_id = b.id AND state <> 'completed' ORDER BY batch_id DESC, seq DESC LIMIT $2) f
 WHERE f.finished_at > now() - $3::interval
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50`
	failuresPerBatch = 500
)

// FailureCounts groups what did not complete within the last so long, of these
// batches: of each the latest 500.
func (s *Store) FailureCounts(ctx context.Context, batches []batch.ID, within time.Duration) ([]FailureCount, error) {
	ids := make([][16]byte, len(batches))
	for i, id := range batches {
		ids[i] = [16]byte(id)
	}
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (f FailureCount, err error) {
		err = row.Scan((*string)(&f.Reason), &f.StatusCode, &f.Count)
		return f, err
	}, failuresSQL, ids, failuresPerBatch, within)
	return list, wrap("grouping failures", err)
}

// CurvePoint is how many results a batch had at a time.
type CurvePoint struct {
	At   time.Time
	Done int64
}

// Results get their places in the order of commits, so a few places tell when the
// batch was how far.
const curveSQL = `
SELECT r.finished_at, r.seq + 1
  FROM (SELECT seq FROM results WHERE batch_id = $1 ORDER BY batch_id DESC, seq DESC LIMIT 1) last
 CROSS JOIN generate_series(0, $2::int) AS k
 CROSS JOIN LATERAL (
       SELECT seq, finished_at FROM results WHERE batch_id = $1 AND seq >= last.seq::bigint * k / $2 ORDER BY batch_id, seq LIMIT 1) r
 ORDER BY r.seq`

// BatchCurve returns n + 1 points of a batch's way from its first result to its
// latest, with one look into an index for each. Reruns leave places empty, so the
// numbers are then above the counts.
func (s *Store) BatchCurve(ctx context.Context, id batch.ID, n int) ([]CurvePoint, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (p CurvePoint, err error) {
		err = row.Scan(&p.At, &p.Done)
		return p, err
	}, curveSQL, [16]byte(id), n)
	return list, wrap("reading the progress of a batch", err)
}

const failedLinesSQL = `
SELECT line FROM (
    SELECT line, reason, status_code FROM results WHERE batch_id = $1 AND state <> 'completed' ORDER BY batch_id DESC, seq DESC LIMIT $4) r
 WHERE reason = $2 AND COALESCE(status_code, 0) = $3 ORDER BY line`

// FailedLines returns the lines of a batch that ended with a reason and status, of
// the latest MaxLines that did not complete.
func (s *Store) FailedLines(ctx context.Context, id batch.ID, reason batch.Reason, status int) ([]int32, error) {
	list, err := collect(ctx, s, pgx.RowTo[int32], failedLinesSQL, [16]byte(id), string(reason), status, MaxLines)
	return list, wrap("looking for failed requests", err)
}
