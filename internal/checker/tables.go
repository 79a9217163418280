package checker

import (
	"context"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// tables are a batch's rows.
type tables struct {
	file                                 [16]byte
	status                               batch.Status
	stamped                              bool // finished_at is set
	total, next                          int64
	completed, failed, canceled, expired int64

	cursors  map[string]cursor
	lines    []template // in order
	requests []request
	results  []result // in order of seq
}

type cursor struct {
	file                    [16]byte
	total, claimed, skipped int64
	last                    int32
	open                    bool
}

type template struct {
	line  int32
	model string
}

type request struct {
	line            int32
	file            [16]byte
	model           string
	state           batch.State
	claim, delivery int32
	owned, due      bool
}

type result struct {
	line   int32
	seq    int64
	state  batch.State
	reason string
	dated  bool
}

const (
	batchSQL = `
SELECT file_id, status, finished_at IS NOT NULL, total, next_seq, completed, failed, canceled, expired
  FROM batches WHERE id = $1`
	cursorsSQL   = `SELECT model, file_id, total, claimed, skipped, last_line, open FROM cursors WHERE batch_id = $1`
	templatesSQL = `SELECT line, model FROM templates WHERE file_id = $1 ORDER BY line`
	requestsSQL  = `
SELECT line, file_id, model, state::text, claim, delivery, daemon_id IS NOT NULL, due_at IS NOT NULL
  FROM requests WHERE batch_id = $1 ORDER BY line`
	resultsSQL = `
SELECT s.line, s.seq, s.state::text, COALESCE(s.reason, ''), s.finished_at <= clock_timestamp()
  FROM results s WHERE s.batch_id = $1 ORDER BY s.seq, s.line`
)

func (t *tables) load(ctx context.Context, tx pgx.Tx, id batch.ID) error {
	key := [16]byte(id)
	err := tx.QueryRow(ctx, batchSQL, key).Scan(&t.file, &t.status, &t.stamped, &t.total, &t.next,
		&t.completed, &t.failed, &t.canceled, &t.expired)
	if err != nil {
		return err
	}
	t.cursors = make(map[string]cursor)
	var model string
	var c cursor
	rows, _ := tx.Query(ctx, cursorsSQL, key)
	_, err = pgx.ForEachRow(rows, []any{&model, &c.file, &c.total, &c.claimed, &c.skipped, &c.last, &c.open}, func() error {
		t.cursors[model] = c
		return nil
	})
	if err != nil {
		return err
	}
	var l template
	rows, _ = tx.Query(ctx, templatesSQL, t.file)
	_, err = pgx.ForEachRow(rows, []any{&l.line, &l.model}, func() error {
		t.lines = append(t.lines, l)
		return nil
	})
	if err != nil {
		return err
	}
	var r request
	rows, _ = tx.Query(ctx, requestsSQL, key)
	_, err = pgx.ForEachRow(rows, []any{&r.line, &r.file, &r.model, &r.state, &r.claim, &r.delivery, &r.owned, &r.due}, func() error {
		t.requests = append(t.requests, r)
		return nil
	})
	if err != nil {
		return err
	}
	var s result
	rows, _ = tx.Query(ctx, resultsSQL, key)
	_, err = pgx.ForEachRow(rows, []any{&s.line, &s.seq, &s.state, &s.reason, &s.dated}, func() error {
		t.results = append(t.results, s)
		return nil
	})
	return err
}
