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
	cancelling                           bool // cancelled, or its budget is spent
	retries                              int64
	skippedAs                            batch.State
	skipSeq, skipLine, skipEnd           int64
	total, next                          int64
	completed, failed, canceled, expired int64

	cursors  map[string]cursor
	lines    []template // in order
	requests []request
	results  []result              // in order of seq
	states   map[batch.State]int64 // of the view
	usage    []usage
	keys     int64 // that it brought and are stored
}

type cursor struct {
	file                    [16]byte
	total, claimed, skipped int64
	last                    int32
	claimedOutOfOrder       int64
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
	backoff         bool // not_before is set
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
SELECT file_id, status, finished_at IS NOT NULL, COALESCE(cancelling_at, budget_exceeded_at) IS NOT NULL, total, next_seq, completed, failed, canceled, expired,
       retries, COALESCE(skipped_as::text, ''), COALESCE(skip_seq, 0), COALESCE(skip_line, 0), COALESCE(skip_end, 0)
  FROM batches WHERE id = $1`
	cursorsSQL   = `SELECT model, file_id, total, claimed, skipped, last_line, holes, open FROM cursors WHERE batch_id = $1`
	templatesSQL = `
SELECT line, model FROM templates WHERE file_id = (SELECT file_id FROM batches WHERE id = $1) ORDER BY line`
	requestsSQL = `
SELECT line, file_id, model, state::text, claim, delivery, daemon_id IS NOT NULL, due_at IS NOT NULL, not_before IS NOT NULL
  FROM requests WHERE batch_id = $1 ORDER BY line`
	resultsSQL = `
SELECT s.line, s.seq, s.state::text, COALESCE(s.reason, ''), s.finished_at <= clock_timestamp()
  FROM results s WHERE s.batch_id = $1 ORDER BY s.seq, s.line`
	statesSQL = `SELECT COALESCE(state::text, ''), count(*) FROM request_states WHERE batch_id = $1 GROUP BY state`
)

func (t *tables) load(ctx context.Context, tx pgx.Tx, id batch.ID) error {
	t.cursors, t.states = make(map[string]cursor), make(map[batch.State]int64)
	key := [16]byte(id)
	var b pgx.Batch
	b.Queue(batchSQL, key).QueryRow(func(row pgx.Row) error {
		return row.Scan(&t.file, &t.status, &t.stamped, &t.cancelling, &t.total, &t.next, &t.completed, &t.failed, &t.canceled, &t.expired,
			&t.retries, (*string)(&t.skippedAs), &t.skipSeq, &t.skipLine, &t.skipEnd)
	})
	var model string
	var c cursor
	each(b.Queue(cursorsSQL, key), func() { t.cursors[model] = c },
		&model, &c.file, &c.total, &c.claimed, &c.skipped, &c.last, &c.claimedOutOfOrder, &c.open)
	var l template
	each(b.Queue(templatesSQL, key), func() { t.lines = append(t.lines, l) }, &l.line, &l.model)
	var r request
	each(b.Queue(requestsSQL, key), func() { t.requests = append(t.requests, r) },
		&r.line, &r.file, &r.model, &r.state, &r.claim, &r.delivery, &r.owned, &r.due, &r.backoff)
	var s result
	each(b.Queue(resultsSQL, key), func() { t.results = append(t.results, s) }, &s.line, &s.seq, &s.state, &s.reason, &s.dated)
	var state string
	var n int64
	each(b.Queue(statesSQL, key), func() { t.states[batch.State(state)] = n }, &state, &n)
	return tx.SendBatch(ctx, &b).Close()
}

// each scans every row of a queued query into the same places, and calls f.
func each(q *pgx.QueuedQuery, f func(), into ...any) {
	q.Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, func() error {
			f()
			return nil
		})
		return err
	})
}
