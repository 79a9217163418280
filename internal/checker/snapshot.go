package checker

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Results are what a batch's results were when Snapshot read them.
type Results struct {
	batch   batch.ID
	retries int64
	next    int64                 // the next seq
	rows    map[int32]fingerprint // by line
}

type fingerprint struct {
	seq   int64
	state batch.State
	sum   string // of all columns
}

const fingerprintsSQL = `SELECT line, seq, state::text, md5(s::text) FROM results s WHERE batch_id = $1`

// Snapshot keeps a fingerprint of every result that the batch has.
func Snapshot(ctx context.Context, db DB, id batch.ID) (*Results, error) {
	s := &Results{batch: id, rows: make(map[int32]fingerprint)}
	err := read(ctx, db, func(tx pgx.Tx) error {
		var line int32
		var f fingerprint
		err := tx.QueryRow(ctx, `SELECT retries, next_seq FROM batches WHERE id = $1`, [16]byte(id)).Scan(&s.retries, &s.next)
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, fingerprintsSQL, [16]byte(id))
		_, err = pgx.ForEachRow(rows, []any{&line, &f.seq, (*string)(&f.state), &f.sum}, func() error {
			s.rows[line] = f
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading results of %s: %w", id, err)
	}
	return s, nil
}

// Len is the number of results in the snapshot.
func (s *Results) Len() int { return len(s.rows) }

// Unchanged returns an error unless every result of the snapshot is still
// there, the same in every column, and every other has a higher seq. After an
// explicit retry only completed ones must be.
func (s *Results) Unchanged(ctx context.Context, db DB) error {
	now, err := Snapshot(ctx, db, s.batch)
	if err != nil {
		return err
	}
	var p problems
	retried := now.retries > s.retries
	for line, before := range s.rows {
		after, found := now.rows[line]
		switch {
		case retried && before.state != batch.Completed && (!found || after.seq >= s.next):
		case !found:
			p.addf("the result of line %d is gone", line)
		case after != before:
			p.addf("the result of line %d changed", line)
		}
	}
	for line, f := range now.rows {
		if _, old := s.rows[line]; !old && f.seq < s.next {
			p.addf("the result of line %d was put before others, at seq %d", line, f.seq)
		}
	}
	return p.err(s.batch)
}
