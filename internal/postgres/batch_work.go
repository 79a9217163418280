package postgres

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

// BatchWork is what is known of the work on a batch in progress, without a walk
// through it.
type BatchWork struct {
	// Models are those that its requests are called with, of a sample.
	Models []batch.Model
	// Processing: a call of it is in flight, as far as a sample tells.
	Processing bool
	// Failed is the latest failure of a request that goes on; nil: none is known.
	Failed *LastFailure
}

// LastFailure is how the last call of a request that goes on has failed.
type LastFailure struct {
	CustomID   string
	Model      batch.Model // that was called
	Reason     batch.Reason
	StatusCode int    // 0: there was no response
	Cause      string // for the owner's eyes
	At         time.Time
}

// sampled is how many of a batch's live requests are looked at, and modelsSampled
// of its models.
const (
	sampled       = 1000
	modelsSampled = 100
)

const batchWorkSQL = `
WITH live AS MATERIALIZED (
    SELECT line, routed_model, state, started_at, last_reason, last_status, last_cause FROM requests
     WHERE batch_id = $1 ORDER BY batch_id, line LIMIT $2
), failed AS (
    SELECT * FROM live WHERE last_reason IS NOT NULL ORDER BY started_at DESC NULLS LAST LIMIT 1
)
SELECT ARRAY(SELECT model FROM (SELECT model FROM cursors WHERE batch_id = $1 AND open ORDER BY batch_id, model LIMIT $3) c
              UNION SELECT routed_model FROM live ORDER BY 1),
       EXISTS (SELECT FROM live WHERE state = 'processing'),
       f.line IS NOT NULL, COALESCE(t.custom_id, ''), COALESCE(f.routed_model, ''), COALESCE(f.last_reason, ''), COALESCE(f.last_status, 0),
       COALESCE(f.last_cause, ''), COALESCE(f.started_at, now())
  FROM batches b
  LEFT JOIN failed f ON true
  LEFT JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = b.file_id AND line = f.line LIMIT 1) t ON true
 WHERE b.id = $1`

// BatchWork reads what is known of the work on a batch.
func (s *Store) BatchWork(ctx context.Context, id batch.ID) (w BatchWork, err error) {
	var models []string
	var failed bool
	var f LastFailure
	err = s.queryRow(ctx, batchWorkSQL, []any{[16]byte(id), sampled, modelsSampled}, &models, &w.Processing, &failed,
		&f.CustomID, (*string)(&f.Model), (*string)(&f.Reason), &f.StatusCode, &f.Cause, &f.At)
	if err != nil {
		return w, fmt.Errorf("reading the work on a batch: %w", err)
	}
	for _, m := range models {
		w.Models = append(w.Models, batch.Model(m))
	}
	if failed {
		w.Failed = &f
	}
	return w, nil
}

// OnlyModels reports whether all that is left of a batch in progress is of these
// models. It jumps through indexes, but for requests that have escalated.
func (s *Store) OnlyModels(ctx context.Context, id batch.ID, models []batch.Model) (only bool, err error) {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = string(m)
	}
	err = s.queryRow(ctx, `
SELECT NOT EXISTS (SELECT FROM cursors WHERE batch_id = $1 AND open AND model <> ALL ($2))
   AND NOT EXISTS (SELECT FROM requests WHERE batch_id = $1 AND routed_model <> ALL ($2))`, []any{[16]byte(id), names}, &only)
	if err != nil {
		return false, fmt.Errorf("looking for other models: %w", err)
	}
	return only, nil
}

// ErrorGroup are requests of a batch that failed alike.
type ErrorGroup struct {
	Reason     batch.Reason
	StatusCode int    // 0: there was no response
	Cause      string // for the owner's eyes; empty: not known
	Ended      bool   // they have their results; else they go on
	Count      int64
	CustomID   string // of one of them
}

const (
	// errorsSampled is how many results, and how many live requests, are grouped,
	// and maxErrorGroups how many groups are returned.
	errorsSampled  = 10_000
	maxErrorGroups = 100
)

// The latest of what did not complete, from an index of just that, what ended without
// a row, which is only counted, and the first of what is live.
const batchErrorsSQL = `
WITH ended AS MATERIALIZED (
    SELECT line, reason, status_code, cause FROM results
     WHERE batch_id = $1 AND state <> 'completed' ORDER BY batch_id DESC, seq DESC LIMIT $2
), live AS MATERIALIZED (
    SELECT line, last_reason, last_status, last_cause FROM requests WHERE batch_id = $1 ORDER BY batch_id, line LIMIT $2
), grouped AS (
    SELECT reason, status_code, cause, true AS ended, sum(n) AS n, min(line) AS line
      FROM (SELECT reason, status_code, cause, count(*) AS n, min(line) AS line FROM ended GROUP BY 1, 2, 3
             UNION ALL
            SELECT COALESCE(b.skip_reason, CASE b.skipped_as WHEN 'expired' THEN 'batch_expired' ELSE 'batch_cancelled' END), NULL, NULL, s.skipped, b.skip_line
              FROM batches b
             CROSS JOIN LATERAL (SELECT sum(skipped) AS skipped FROM cursors WHERE batch_id = b.id) s
             WHERE b.id = $1 AND b.skipped_as IS NOT NULL AND s.skipped > 0) e
     GROUP BY 1, 2, 3
     UNION ALL
    SELECT last_reason, last_status, last_cause, false, count(*), min(line) FROM live WHERE last_reason IS NOT NULL GROUP BY 1, 2, 3
     ORDER BY n DESC, line LIMIT $3
)
SELECT g.reason, COALESCE(g.status_code, 0), COALESCE(g.cause, ''), g.ended, g.n::bigint, COALESCE(t.custom_id, ''),
       (SELECT count(*) FROM ended) >= $2 OR (SELECT count(*) FROM live) >= $2
  FROM batches b
 CROSS JOIN grouped g
  LEFT JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = b.file_id AND line = g.line LIMIT 1) t ON true
 WHERE b.id = $1
 ORDER BY g.n DESC, g.line`

// BatchErrors groups the failures of a batch: of requests that ended without
// completing, and of those that go on. Partial: there are more than were looked at.
func (s *Store) BatchErrors(ctx context.Context, id batch.ID) (groups []ErrorGroup, partial bool, err error) {
	var g ErrorGroup
	err = s.forEach(ctx, batchErrorsSQL, []any{[16]byte(id), errorsSampled, maxErrorGroups},
		[]any{(*string)(&g.Reason), &g.StatusCode, &g.Cause, &g.Ended, &g.Count, &g.CustomID, &partial}, func() { groups = append(groups, g) })
	if err != nil {
		return nil, false, fmt.Errorf("grouping errors: %w", err)
	}
	return groups, partial, nil
}
