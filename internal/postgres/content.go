package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// linesPageBytes is about how much of bodies one page of lines holds.
const linesPageBytes = 2 << 20

// As in resultsSQL, the page ends with the line that passes the byte limit.
// The bodies beyond it are never fetched: their length is kept beside them.
const fileLinesSQL = `
SELECT line, model, custom_id, method, path, body
  FROM (SELECT t.*, sum(octet_length(body)) OVER (ORDER BY line) - octet_length(body) AS before
          FROM (SELECT * FROM templates WHERE file_id = $1 AND line > $2
                 ORDER BY file_id, line OFFSET $3 LIMIT $4) t) p
 WHERE before < $5
 ORDER BY line`

// FileLines reads up to n lines of a file in order, from after the given line,
// the first skip of them left out. An empty page means that there are no more.
func (s *Store) FileLines(ctx context.Context, id batch.FileID, after int32, skip int64, n int) ([]batch.Template, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, fileLinesSQL, [16]byte(id), after, skip, n, linesPageBytes)
	if err != nil {
		return nil, fmt.Errorf("reading file: %w", err)
	}
	lines, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t batch.Template, err error) {
		err = row.Scan(&t.Line, (*string)(&t.Model), &t.CustomID, &t.Method, &t.Path, &t.Body)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading file: %w", err)
	}
	return lines, nil
}

// As resultsSQL, of the completed requests alone or, if $3, of all others. Only
// these may have been skipped.
const resultLinesSQL = `
WITH b AS MATERIALIZED (
    SELECT id, file_id, skipped_as, skip_seq, skip_line, skip_end FROM batches WHERE id = $1 AND deleted_at IS NULL
)
SELECT line, seq, state, COALESCE(reason, ''), COALESCE(status_code, 0), COALESCE(upstream_request_id, ''), body, attempts, custom_id, COALESCE(detail, '')
  FROM (SELECT r.*, t.custom_id,
               sum(COALESCE(octet_length(r.body), 0)) OVER (ORDER BY r.seq) - COALESCE(octet_length(r.body), 0) AS before
          FROM b
         CROSS JOIN LATERAL (
               SELECT * FROM results
                WHERE batch_id = b.id AND seq >= $2 AND seq < CASE WHEN $3 AND $2 < b.skip_end THEN b.skip_seq ELSE 2147483647 END
                  AND (state = 'completed') <> $3
                ORDER BY batch_id, seq OFFSET $4 LIMIT $5) r
         CROSS JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = b.file_id AND line = r.line LIMIT 1) t) p
 WHERE before < $6
 UNION ALL
SELECT 0, skip_seq, skipped_as, '', skip_line, '', NULL, skip_end, '', '' FROM b WHERE $3 AND $2 < skip_end
 ORDER BY 2`

// CompletedLines reads up to n lines of a batch's output file in order, from
// the given sequence number, the first leaveOut of them left out. An empty page
// means that there are no more yet.
func (s *Store) CompletedLines(ctx context.Context, id batch.ID, fromSeq, leaveOut int64, n int) ([]batch.Result, error) {
	page, _, err := s.storedResults(ctx, id, resultLinesSQL, [16]byte(id), fromSeq, false, leaveOut, n, linesPageBytes)
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	return page, nil
}

// OtherLines is CompletedLines for the error file.
func (s *Store) OtherLines(ctx context.Context, id batch.ID, fromSeq, leaveOut int64, n int) ([]batch.Result, error) {
	for {
		page, err := s.otherLines(ctx, id, fromSeq, n)
		if err != nil {
			return nil, fmt.Errorf("reading results: %w", err)
		}
		if int64(len(page)) > leaveOut || len(page) == 0 {
			return page[min(leaveOut, int64(len(page))):], nil
		}
		leaveOut -= int64(len(page))
		fromSeq = page[len(page)-1].Seq + 1
	}
}

func (s *Store) otherLines(ctx context.Context, id batch.ID, fromSeq int64, n int) ([]batch.Result, error) {
	for {
		page, skip, err := s.storedResults(ctx, id, resultLinesSQL, [16]byte(id), fromSeq, true, 0, n, linesPageBytes)
		if err != nil || len(page) > 0 || skip == nil {
			return page, err
		}
		page, err = s.skippedResults(ctx, id, *skip, fromSeq, n)
		if err != nil || len(page) > 0 {
			return page, err
		}
		fromSeq = skip.end
	}
}
