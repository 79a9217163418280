package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Bounded by rows and by bytes, since bodies can be large: the page ends with
// the line that passes the byte limit.
const resultsSQL = `
SELECT line, seq, state, COALESCE(reason, ''), COALESCE(status_code, 0), COALESCE(upstream_request_id, ''), body, attempts, custom_id, COALESCE(detail, '')
  FROM (SELECT r.*, t.custom_id,
               sum(COALESCE(octet_length(r.body), 0)) OVER (ORDER BY r.seq) - COALESCE(octet_length(r.body), 0) AS before
          FROM (SELECT * FROM results WHERE batch_id = $1 AND seq >= $2 ORDER BY batch_id, seq LIMIT $3) r
          JOIN batches b ON b.id = r.batch_id
         CROSS JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = b.file_id AND line = r.line LIMIT 1) t) p
 WHERE before < $4
 ORDER BY seq`

// resultsPageBytes is about how much of bodies one page of Results holds.
const resultsPageBytes = 16 << 20

// Results reads up to n results of a batch in output order, from the given
// sequence number. An empty page means that there are no more yet. Results
// are numbered in commit order without gaps, so a reader that goes on from the
// last number plus one misses none.
func (s *Store) Results(ctx context.Context, id batch.ID, fromSeq int64, n int) ([]batch.Result, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, resultsSQL, [16]byte(id), fromSeq, n, resultsPageBytes)
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (batch.Result, error) {
		r := batch.Result{ID: batch.RequestID{Batch: id}}
		err := row.Scan(&r.ID.Line, &r.Seq, (*string)(&r.State), (*string)(&r.Reason), &r.StatusCode, &r.RequestID, &r.Body,
			&r.Attempts, &r.CustomID, &r.Detail)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	return out, nil
}

const stateCountsSQL = `SELECT state, count(*) FROM request_states WHERE batch_id = $1 GROUP BY state`

// StateCounts counts a batch's requests by state from the rows themselves.
// It walks the whole batch: for tests and for people in doubt.
func (s *Store) StateCounts(ctx context.Context, id batch.ID) (map[batch.State]int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, stateCountsSQL, [16]byte(id))
	if err != nil {
		return nil, fmt.Errorf("counting states: %w", err)
	}
	counts := make(map[batch.State]int64)
	var state string
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&state, &n}, func() error {
		counts[batch.State(state)] = n
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("counting states: %w", err)
	}
	return counts, nil
}
