package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// RequestResult is a request of a batch together with its result so far.
type RequestResult struct {
	batch.Template
	// Result is complete once its State is terminal; before that only State,
	// Attempts, ID and CustomID are set, and of its last failure, if it had one,
	// Reason, StatusCode and Cause.
	Result batch.Result
}

// RequestQuery says which requests of a batch to read.
type RequestQuery struct {
	Batch    batch.ID
	File     batch.FileID // of the batch
	State    batch.State  // empty: any
	CustomID string       // empty: any
	After    int32        // line; 0: from the beginning
	Limit    int          // at least 1
}

const (
	// A filter may match nothing for a million lines, so a statement looks at
	// this many at most.
	outcomesWindow       = 2000
	outcomesWindowEndSQL = `
SELECT line FROM templates WHERE file_id = $1 AND line > $2 ORDER BY file_id, line OFFSET $3 LIMIT 1`
	outcomesSQL = `
SELECT line, model, custom_id, method, path, body, matched,
       COALESCE(seq, 0), state, COALESCE(reason, ''), COALESCE(status_code, 0), COALESCE(upstream_request_id, ''), response, attempts, COALESCE(detail, ''), COALESCE(cause, '')
  FROM (SELECT o.*, count(*) OVER () AS matched,
               sum(bytes) OVER (ORDER BY line) - bytes AS before
          FROM (SELECT t.*, r.seq, COALESCE(r.reason, q.last_reason, CASE WHEN c.skipped > 0 AND t.line > c.last_line THEN b.skip_reason END) AS reason, COALESCE(r.status_code, q.last_status) AS status_code, r.upstream_request_id, r.body AS response, r.detail,
                       COALESCE(r.cause, q.last_cause) AS cause,
                       octet_length(t.body) + COALESCE(octet_length(r.body), 0) AS bytes,
                       COALESCE(r.attempts, q.attempt, 0) AS attempts,
                       COALESCE(r.state, q.state, CASE WHEN c.skipped > 0 AND t.line > c.last_line THEN b.skipped_as ELSE 'pending' END) AS state
                  FROM (SELECT * FROM templates WHERE file_id = $2 AND line > $3 AND line <= $4
                           AND ($5 = '' OR custom_id = $5)) t
                 CROSS JOIN LATERAL (SELECT skipped_as, skip_reason FROM batches WHERE id = $1 LIMIT 1) b
                 CROSS JOIN LATERAL (SELECT skipped, last_line FROM cursors WHERE batch_id = $1 AND model = t.model LIMIT 1) c
                  LEFT JOIN LATERAL (SELECT * FROM results WHERE batch_id = $1 AND line = t.line LIMIT 1) r ON true
                  LEFT JOIN LATERAL (SELECT state, attempt, last_reason, last_status, last_cause FROM requests WHERE batch_id = $1 AND line = t.line LIMIT 1) q ON true) o
         WHERE $6 = '' OR state::text = $6
         ORDER BY line LIMIT $7) p
 WHERE before < $8
 ORDER BY line`
)

// ListRequests returns requests of a batch in the order of its file, and the line
// that the next page follows; 0: there are no more. A page may be short or
// empty before that.
func (s *Store) ListRequests(ctx context.Context, q RequestQuery) (page []RequestResult, next int32, err error) {
	window := outcomesWindow
	if q.State == "" && q.CustomID == "" {
		window = min(window, q.Limit)
	}
	var end int32
	err = s.queryRow(ctx, outcomesWindowEndSQL, []any{[16]byte(q.File), q.After, window - 1}, &end)
	last := errors.Is(err, batch.ErrNotFound)
	if last {
		end = math.MaxInt32
	} else if err != nil {
		return nil, 0, fmt.Errorf("reading outcomes: %w", err)
	}
	var matched int
	page, err = collect(ctx, s, func(row pgx.CollectableRow) (o RequestResult, err error) {
		r := &o.Result
		err = row.Scan(&o.Line, (*string)(&o.Model), &o.CustomID, &o.Method, &o.Path, &o.Body, &matched,
			&r.Seq, (*string)(&r.State), (*string)(&r.Reason), &r.StatusCode, &r.RequestID, &r.Body, &r.Attempts, &r.Detail, &r.Cause)
		r.ID, r.CustomID = batch.RequestID{Batch: q.Batch, Line: o.Line}, o.CustomID
		return o, err
	}, outcomesSQL, [16]byte(q.Batch), [16]byte(q.File), q.After, end, q.CustomID, string(q.State), q.Limit, linesPageBytes)
	if err != nil {
		return nil, 0, fmt.Errorf("reading outcomes: %w", err)
	}
	if matched > len(page) {
		return page, page[len(page)-1].Line, nil
	}
	if last {
		end = 0
	}
	return page, end, nil
}
