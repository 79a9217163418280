package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

// Bounded by rows and by bytes, since bodies can be large: the page ends with
// the line that passes the byte limit, or before the places reserved for lines
// that were skipped. Then the last row says where those are, in columns of its
// own.
//
// $3 is null for all results, true for those that did not complete and false for
// the others. Only what did not complete may have been skipped.
const resultsSQL = `
WITH b AS MATERIALIZED (
    SELECT id, file_id, skipped_as, skip_reason, skip_seq, skip_line, skip_end, $3::boolean IS DISTINCT FROM false AND $2::bigint < skip_end AS skips
      FROM batches WHERE id = $1 AND deleted_at IS NULL
)
SELECT line, seq, state, COALESCE(reason, ''), COALESCE(status_code, 0), COALESCE(upstream_request_id, ''), body, attempts, custom_id, COALESCE(detail, ''), COALESCE(cause, ''),
       NULL AS skipped_as, NULL AS skip_line, NULL AS skip_end
  FROM (SELECT r.*, t.custom_id,
               sum(COALESCE(octet_length(r.body), 0)) OVER (ORDER BY r.seq) - COALESCE(octet_length(r.body), 0) AS before
          FROM b
         CROSS JOIN LATERAL (
               SELECT * FROM results
                WHERE batch_id = b.id AND seq >= $2 AND seq < CASE WHEN b.skips THEN b.skip_seq ELSE 9223372036854775807 END
                  AND ($3 IS NULL OR (state = 'completed') <> $3)
                ORDER BY batch_id, seq OFFSET $4 LIMIT $5) r
         CROSS JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = b.file_id AND line = r.line LIMIT 1) t) p
 WHERE before < $6
 UNION ALL
SELECT 0, skip_seq, NULL, COALESCE(skip_reason, ''), 0, '', NULL, 0, '', '', '', skipped_as::text, skip_line, skip_end FROM b WHERE skips
 ORDER BY 2`

// Walks the file from a line on and says which of its lines were skipped: it
// is for as long as the skip that the caller knows of stands.
const skippedSQL = `
SELECT t.line, t.custom_id, c.skipped IS NOT NULL
  FROM batches b
 CROSS JOIN LATERAL (
       SELECT line, model, custom_id FROM templates WHERE file_id = b.file_id AND line >= $3 ORDER BY file_id, line LIMIT $4) t
  LEFT JOIN LATERAL (
       SELECT skipped FROM cursors c
        WHERE batch_id = b.id AND model = t.model AND skipped > 0 AND last_line < t.line
          AND (holes = 0 OR (SELECT 1 FROM requests WHERE batch_id = b.id AND line = t.line) IS NULL
                        AND (SELECT 1 FROM results WHERE batch_id = b.id AND line = t.line) IS NULL)
        LIMIT 1) c ON true
 WHERE b.id = $1 AND b.skip_seq = $2 AND b.deleted_at IS NULL
 ORDER BY t.line`

const (
	// resultsPageBytes is about how much of bodies one page of Results holds.
	resultsPageBytes = 16 << 20
	// skippedWalk is the most lines of a file that one statement walks.
	skippedWalk = 5000
)

// Results reads up to n results of a batch in output order, from the given
// sequence number. An empty page means that there are no more yet. Numbers
// follow the order of commits, so a reader that goes on from the last number
// plus one misses none.
//
// They have no gaps until lines are skipped or rerun. Lines that were never
// claimed when their batch was cancelled or expired have no row, but a place in
// the output. What is rerun leaves its place empty, and gets another at the
// end; so a reader that is ahead of a rerun sees such a request again, with its
// new result.
func (s *Store) Results(ctx context.Context, id batch.ID, fromSeq int64, n int) ([]batch.Result, error) {
	page, err := s.resultsPage(ctx, resultQuery{id: id, from: fromSeq, n: n, bytes: resultsPageBytes})
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	return page, nil
}

// resultQuery says which results of a batch to read.
type resultQuery struct {
	id           batch.ID
	from         int64 // place in the output
	leaveOut     int64 // of those that follow; not with skipped lines
	n            int
	bytes        int
	unsuccessful *bool // nil: all
}

// resultsPage reads stored results and, where those end, lines that were
// skipped.
func (s *Store) resultsPage(ctx context.Context, q resultQuery) ([]batch.Result, error) {
	for {
		page, skip, err := s.storedResults(ctx, q)
		if err != nil || len(page) > 0 || skip == nil || q.n <= 0 {
			return page, err
		}
		// No stored result is left before the skipped lines.
		page, err = s.skippedResults(ctx, q.id, *skip, q.from, q.n)
		if err != nil || len(page) > 0 {
			return page, err
		}
		q.from = skip.end
	}
}

// skip are the places in the output of lines that were skipped.
type skip struct {
	as       batch.State
	reason   batch.Reason // empty: as the state says
	seq, end int64
	line     int32 // whose place is seq
}

// storedResults also returns the next skipped lines, nil if there are none.
func (s *Store) storedResults(ctx context.Context, q resultQuery) (page []batch.Result, next *skip, err error) {
	var r batch.Result
	var state, skippedAs *string
	var skipLine *int32
	var skipEnd *int64
	err = s.forEach(ctx, resultsSQL, []any{[16]byte(q.id), max(q.from, 0), q.unsuccessful, q.leaveOut, q.n, q.bytes},
		[]any{&r.ID.Line, &r.Seq, &state, (*string)(&r.Reason), &r.StatusCode, &r.RequestID, &r.Body, &r.Attempts, &r.CustomID, &r.Detail, &r.Cause,
			&skippedAs, &skipLine, &skipEnd}, func() {
			if skippedAs != nil {
				next = &skip{as: batch.State(*skippedAs), reason: r.Reason, seq: r.Seq, end: *skipEnd, line: *skipLine}
				return
			}
			r.ID.Batch, r.State = q.id, batch.State(*state)
			page = append(page, r)
			r.Body = nil // the page has it
		})
	return page, next, err
}

func (s *Store) skippedResults(ctx context.Context, id batch.ID, skip skip, fromSeq int64, n int) (out []batch.Result, err error) {
	result := batch.Result{State: skip.as, Reason: skip.reason}
	switch {
	case skip.as == batch.Expired:
		result.Reason = batch.BatchExpired
	case skip.reason == "":
		result.Reason = batch.BatchCancelled
	}
	line := skip.line + int32(max(fromSeq-skip.seq, 0))
	for walk, more := min(max(n, 100), skippedWalk), true; more && len(out) == 0; {
		var custom string
		var skipped bool
		walked := 0
		err := s.forEach(ctx, skippedSQL, []any{[16]byte(id), skip.seq, line, walk}, []any{&line, &custom, &skipped}, func() {
			if walked++; skipped && len(out) < n {
				result.ID = batch.RequestID{Batch: id, Line: line}
				result.CustomID, result.Seq = custom, skip.seq+int64(line-skip.line)
				out = append(out, result)
			}
		})
		if err != nil {
			return nil, err
		}
		line++
		more = walked == walk
		walk = skippedWalk
	}
	return out, nil
}

const stateCountsSQL = `SELECT state, count(*) FROM request_states WHERE batch_id = $1 GROUP BY state`

// StateCounts counts a batch's requests by state from the rows themselves.
// It walks the whole batch: for tests and for people in doubt.
func (s *Store) StateCounts(ctx context.Context, id batch.ID) (map[batch.State]int64, error) {
	counts := make(map[batch.State]int64)
	var state string
	var n int64
	err := s.forEach(ctx, stateCountsSQL, []any{[16]byte(id)}, []any{&state, &n}, func() { counts[batch.State(state)] = n })
	if err != nil {
		return nil, fmt.Errorf("counting states: %w", err)
	}
	return counts, nil
}
