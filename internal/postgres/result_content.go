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
	lines, err := collect(ctx, s, func(row pgx.CollectableRow) (t batch.Template, err error) {
		err = row.Scan(&t.Line, (*string)(&t.Model), &t.CustomID, &t.Method, &t.Path, &t.Body)
		return t, err
	}, fileLinesSQL, [16]byte(id), after, skip, n, linesPageBytes)
	if err != nil {
		return nil, fmt.Errorf("reading file: %w", err)
	}
	return lines, nil
}

// CompletedLines reads up to n lines of a batch's output file in order, from
// the given sequence number, the first leaveOut of them left out. An empty page
// means that there are no more yet.
func (s *Store) CompletedLines(ctx context.Context, id batch.ID, fromSeq, leaveOut int64, n int) ([]batch.Result, error) {
	unsuccessful := false
	page, _, err := s.storedResults(ctx, resultQuery{
		id: id, from: fromSeq, leaveOut: leaveOut, n: n, bytes: linesPageBytes, unsuccessful: &unsuccessful,
	})
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	return page, nil
}

// OtherLines is CompletedLines for the error file.
func (s *Store) OtherLines(ctx context.Context, id batch.ID, fromSeq, leaveOut int64, n int) ([]batch.Result, error) {
	unsuccessful := true
	q := resultQuery{id: id, from: fromSeq, n: n, bytes: linesPageBytes, unsuccessful: &unsuccessful}
	for {
		page, err := s.resultsPage(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("reading results: %w", err)
		}
		if int64(len(page)) > leaveOut || len(page) == 0 {
			return page[min(leaveOut, int64(len(page))):], nil
		}
		leaveOut -= int64(len(page))
		q.from = page[len(page)-1].Seq + 1
	}
}
