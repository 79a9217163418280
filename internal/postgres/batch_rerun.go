package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	batchOwnerSQL = `SELECT created_by FROM batches WHERE id = $1`

	// Before the batch, as the deletion and the expiry of a file lock the two.
	lockFileSQL = `
SELECT f.status = 'ready' FROM batches b JOIN files f ON f.id = b.file_id WHERE b.id = $1 FOR SHARE OF f`

	// What was skipped is pending again, as if it had never been otherwise.
	reopenCursorsSQL = `
WITH reopened AS (
    UPDATE cursors SET open = true, skipped = 0 WHERE batch_id = $1 AND skipped > 0
    RETURNING batch_id
), before AS (
    SELECT sum(skipped)::int AS n FROM cursors WHERE batch_id = $1
)
SELECT n FROM before`

	// What a rerun needs to know of its batch. Requests that are rerun take new
	// places in the output, at most one each, and then those of a cancel or expiry,
	// at most one for each line of the file. Where one of the columns is 32 bits
	// wide still, they may not suffice.
	rerunSQL = `
SELECT b.status, b.retries, b.next_seq, COALESCE(b.skipped_as::text, ''), b.cancelling_at IS NOT NULL,
       b.failed, b.canceled, b.expired,
       b.brings_key AND NOT EXISTS (SELECT FROM batch_keys WHERE batch_id = b.id),
       b.next_seq::bigint + b.total + (SELECT line FROM templates WHERE file_id = b.file_id ORDER BY file_id DESC, line DESC LIMIT 1) > 2147483647
       AND EXISTS (SELECT FROM pg_attribute
                    WHERE (attrelid, attname) IN (('batches'::regclass, 'next_seq'), ('results'::regclass, 'seq')) AND atttypid = 'int4'::regtype)
  FROM batches b WHERE b.id = $1`

	// Results become live requests that are due, in a new generation, and go on
	// counting claims: nothing that was sent or is being called of an earlier
	// life fits any more.
	backSQL = `, gone AS (
    DELETE FROM results r USING chosen c WHERE r.ctid = c.place
    RETURNING r.line, r.seq, r.state, r.claim
), back AS (
    INSERT INTO requests (batch_id, line, file_id, model, routed_model, state, claim, generation, due_at)
    SELECT $1, g.line, b.file_id, t.model, t.model, 'pending', GREATEST(g.claim, 1), $2::int, now()
      FROM gone g
     CROSS JOIN LATERAL (SELECT file_id FROM batches WHERE id = $1 LIMIT 1) b
     CROSS JOIN LATERAL (SELECT model FROM templates WHERE file_id = b.file_id AND line = g.line LIMIT 1) t
)
SELECT line, seq, state::text FROM gone`

	// Of a range of seq, so that what ends again meanwhile is not taken again.
	rerunStatesSQL = `
WITH chosen AS MATERIALIZED (
    SELECT ctid AS place FROM results
     WHERE batch_id = $1 AND seq >= $3 AND seq < $4 AND state = ANY ($5::text[]::request_state[])
     ORDER BY batch_id, seq LIMIT $6
)` + backSQL

	rerunLinesSQL = `
WITH chosen AS MATERIALIZED (
    SELECT ctid AS place FROM results
     WHERE batch_id = $1 AND line = ANY ($3::int[]) AND state IN ('failed', 'canceled', 'expired')
)` + backSQL

	// Lines that were skipped come back one by one: each gets a row out of turn,
	// and the cursor a hole.
	rerunSkippedSQL = `
WITH beyond AS MATERIALIZED (
    SELECT b.file_id, t.line, t.model
      FROM batches b
     CROSS JOIN unnest($2::int[]) AS i (line)
     CROSS JOIN LATERAL (SELECT line, model FROM templates WHERE file_id = b.file_id AND line = i.line LIMIT 1) t
     CROSS JOIN LATERAL (SELECT FROM cursors WHERE batch_id = b.id AND model = t.model AND skipped > 0 AND last_line < t.line LIMIT 1) c
     WHERE b.id = $1
       AND (SELECT 1 FROM requests WHERE batch_id = $1 AND line = t.line) IS NULL
       AND (SELECT 1 FROM results WHERE batch_id = $1 AND line = t.line) IS NULL
), holed AS (
    UPDATE cursors c SET claimed = c.claimed + h.n, holes = c.holes + h.n, skipped = c.skipped - h.n
      FROM (SELECT model, count(*)::int AS n FROM beyond GROUP BY model) h
     WHERE c.batch_id = $1 AND c.model = h.model
), back AS (
    INSERT INTO requests (batch_id, line, file_id, model, routed_model, state, claim, generation, due_at)
    SELECT $1, line, file_id, model, model, 'pending', 1, $3::int, now() FROM beyond
)
SELECT line FROM beyond`

	// Counters move back and the batch is in progress again. If its time is
	// over, a new completion window of the same length begins. Places in the
	// output are never used twice.
	reopenBatchSQL = `
UPDATE batches b
   SET failed = b.failed - $2, canceled = b.canceled - $3, expired = b.expired - $4, retries = $5,
       status = 'in_progress', finished_at = NULL, cancelling_at = NULL, budget_exceeded_at = NULL,
       skipped_as = CASE WHEN s.left THEN b.skipped_as END, skip_seq = CASE WHEN s.left THEN b.skip_seq END,
       skip_line = CASE WHEN s.left THEN b.skip_line END, skip_end = CASE WHEN s.left THEN b.skip_end END,
       expires_at = CASE WHEN b.expires_at > now() THEN b.expires_at
                         ELSE now() + (b.expires_at - COALESCE(b.renewed_at, b.created_at)) END,
       renewed_at = CASE WHEN b.expires_at > now() THEN b.renewed_at ELSE now() END
  FROM (SELECT EXISTS (SELECT FROM cursors WHERE batch_id = $1 AND skipped > 0) AS left) s
 WHERE b.id = $1`
)

// rerun is one transaction of a rerun, in a batch that is locked.
type rerun struct {
	id         [16]byte
	status     batch.Status
	generation int
	nextSeq    int64
	skippedAs  batch.State
	cancelled  bool
	counts     map[batch.State]int // that may be rerun
	moved      map[batch.State]int

	admit func(ctx context.Context, requests int) error // within the owner's allowance
}

// inRerun locks the batch for a rerun, runs f and, if that moved anything,
// reopens the batch.
func (s *Store) inRerun(ctx context.Context, id batch.ID, a batch.Allowance, f func(context.Context, pgx.Tx, *rerun) error) error {
	if slices.Contains(s.excluded, [16]byte(id)) {
		return batch.ErrOtherEndpoint
	}
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var owner string
		if err := tx.QueryRow(ctx, batchOwnerSQL, [16]byte(id)).Scan(&owner); err != nil {
			return translate(err)
		}
		if _, err := tx.Exec(ctx, lockOwnerSQL, owner); err != nil {
			return err
		}
		var ready bool
		if err := tx.QueryRow(ctx, lockFileSQL, [16]byte(id)).Scan(&ready); err != nil {
			return translate(err)
		}
		if _, err := lockBatch(ctx, tx, id); err != nil {
			return err
		}
		if !ready {
			return batch.ErrFileDeleted
		}
		r, err := readRerun(ctx, tx, id)
		if err != nil {
			return err
		}
		r.admit = func(ctx context.Context, requests int) error {
			batches := 0
			if r.status.Terminal() {
				batches = 1
			}
			return checkAllowance(ctx, tx, owner, a, batches, int64(requests))
		}
		if err := f(ctx, tx, r); err != nil || len(r.moved) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, reopenBatchSQL, r.id, r.moved[batch.Failed], r.moved[batch.Canceled], r.moved[batch.Expired], r.generation)
		return err
	})
}

// readRerun reads what a rerun needs to know of a locked batch, and refuses one
// that cannot be.
func readRerun(ctx context.Context, tx pgx.Tx, id batch.ID) (*rerun, error) {
	r := &rerun{id: [16]byte(id), moved: make(map[batch.State]int)}
	var failed, canceled, expired int
	var keyless, full, spent bool
	err := tx.QueryRow(ctx, rerunSQL, r.id).Scan(&r.status, &r.generation, &r.nextSeq, &r.skippedAs, &r.cancelled,
		&failed, &canceled, &expired, &keyless, &full)
	if err == nil {
		err = tx.QueryRow(ctx, isSpentSQL, r.id).Scan(&spent)
	}
	switch {
	case err != nil:
		return nil, err
	case spent:
		return nil, batch.ErrBudgetSpent
	case keyless:
		return nil, batch.ErrKeyGone
	case full:
		return nil, batch.ErrRerunLimit
	}
	r.counts = map[batch.State]int{batch.Failed: failed, batch.Canceled: canceled, batch.Expired: expired}
	return r, nil
}

// back runs a statement that takes results back. It returns their lines and
// the highest seq.
func (r *rerun) back(ctx context.Context, tx pgx.Tx, sql string, args ...any) (lines []int32, seq int64, err error) {
	rows, _ := tx.Query(ctx, sql, append([]any{r.id, r.generation}, args...)...)
	var line int32
	var n int64
	var state batch.State
	_, err = pgx.ForEachRow(rows, []any{&line, &n, (*string)(&state)}, func() error {
		lines, seq = append(lines, line), max(seq, n)
		r.moved[state]++
		return nil
	})
	return lines, seq, err
}

// rerunnable checks the states of a rerun and returns them as text.
func rerunnable(states []batch.State) ([]string, error) {
	out := make([]string, len(states))
	for i, state := range states {
		if !state.Rerunnable() {
			return nil, fmt.Errorf("%s: %w", state, batch.ErrNotRerunnable)
		}
		out[i] = string(state)
	}
	return out, nil
}

// RerunRequests puts all requests of a batch that finished in one of the states,
// which may be failed, canceled and expired, back to pending: as they were at
// the beginning, but in a new generation. It returns how many. If there is
// one, the batch is in progress again; a deadline that has passed is renewed.
// What it makes pending counts against the owner's allowance.
//
// Their results are gone from the output, and those that follow have places
// beyond all that were ever used.
//
// Lines that were never claimed come back at once, whatever their number.
// Results are taken back some thousands in one transaction; after an error or
// a crash the rest of them is as it was, and calling again goes on; so it is if the
// owner begins so much else meanwhile that the rest exceeds the allowance. It stops
// with batch.ErrRerunSuperseded when the batch is cancelled or rerun by another
// meanwhile. It returns batch.ErrNotRerunnable for other states, a
// *batch.AllowanceError, batch.ErrBatchCancelling, batch.ErrBudgetSpent, batch.ErrFileDeleted and
// batch.ErrKeyGone where the batch lacks what its calls need,
// batch.ErrOtherEndpoint for one that is excluded, batch.ErrRerunLimit, and batch.ErrNotFound.
func (s *Store) RerunRequests(ctx context.Context, id batch.ID, a batch.Allowance, states ...batch.State) (n int, err error) {
	names, err := rerunnable(states)
	if err != nil {
		return 0, fmt.Errorf("rerunning requests of %s: %w", id, err)
	}
	var from, end int64
	var generation int
	for more := true; more; {
		chunk := 0
		err := s.inRerun(ctx, id, a, func(ctx context.Context, tx pgx.Tx, r *rerun) error {
			if generation == 0 {
				if err := r.begin(ctx, tx, states); err != nil {
					return err
				}
				generation, end = r.generation, r.nextSeq
			} else if r.generation != generation || r.cancelled {
				return batch.ErrRerunSuperseded
			}
			lines, last, err := r.back(ctx, tx, rerunStatesSQL, from, end, names, s.slice)
			from, more = last+1, len(lines) == s.slice
			for _, moved := range r.moved {
				chunk += moved
			}
			if err != nil || n == 0 {
				return err
			}
			// Since the first one, the owner may have begun something else.
			return r.admit(ctx, chunk)
		})
		if err != nil {
			return n, fmt.Errorf("rerunning requests of %s: %w", id, err)
		}
		n += chunk
	}
	return n, nil
}

// begin opens a generation, if the owner may have all of it, and makes skipped
// lines pending.
func (r *rerun) begin(ctx context.Context, tx pgx.Tx, states []batch.State) error {
	if r.cancelled && !r.status.Terminal() {
		return batch.ErrBatchCancelling
	}
	total := 0
	for _, state := range states {
		total += r.counts[state]
	}
	if total == 0 {
		return nil
	}
	if err := r.admit(ctx, total); err != nil {
		return err
	}
	r.generation++
	return r.reopenCursors(ctx, tx, states)
}

// reopenCursors makes skipped lines pending, if they ended in one of the states.
func (r *rerun) reopenCursors(ctx context.Context, tx pgx.Tx, states []batch.State) error {
	for _, state := range states {
		if state != r.skippedAs {
			continue
		}
		var n int
		if err := tx.QueryRow(ctx, reopenCursorsSQL, r.id).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			r.moved[state] += n
		}
		return nil
	}
	return nil
}

// RerunLines does the same for single requests, in one transaction. It returns
// batch.ErrNotFound, and changes nothing, if one of the lines does not exist.
func (s *Store) RerunLines(ctx context.Context, id batch.ID, a batch.Allowance, lines []int32) (out Lines, err error) {
	err = s.inRerun(ctx, id, a, func(ctx context.Context, tx pgx.Tx, r *rerun) error {
		if r.cancelled && !r.status.Terminal() {
			return batch.ErrBatchCancelling
		}
		if lines, err = checkLines(ctx, tx, id, lines); err != nil {
			return err
		}
		r.generation++
		changed, _, err := r.back(ctx, tx, rerunLinesSQL, lines)
		if err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, rerunSkippedSQL, r.id, without(lines, changed), r.generation)
		skipped, err := pgx.CollectRows(rows, pgx.RowTo[int32])
		if err != nil {
			return err
		}
		if len(skipped) > 0 {
			r.moved[r.skippedAs] += len(skipped)
		}
		out = sortLines(lines, append(changed, skipped...))
		if len(out.Changed) == 0 {
			return nil
		}
		return r.admit(ctx, len(out.Changed)) // else nothing was changed
	})
	if err != nil {
		return Lines{}, fmt.Errorf("rerunning requests of %s: %w", id, err)
	}
	return out, nil
}
