package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/pgconnect"
)

// Owing says who is to be called of the results that FinishOwing writes.
type Owing struct {
	// Later: each result is owed a call of its own after the commit.
	Later bool
	// InTx is called in the transaction; nil: nobody is. Where it fails, the results
	// are stored nevertheless, and each is owed a call of it by itself.
	InTx InTx
}

const (
	// The results as they were written, with what the call needs besides the
	// completion.
	owedSQL = `SELECT n.batch_id, n.line, n.seq, COALESCE(t.custom_id, '')
  FROM numbered n
  LEFT JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = n.file_id AND line = n.line LIMIT 1) t ON true
 UNION ALL
SELECT id, 0, 0, '' FROM counted WHERE spent`

	oweSQL = `, owed AS (
    INSERT INTO callbacks (batch_id, seq, in_tx, daemon_id) SELECT batch_id, seq, false, $1 FROM numbered
)
`
	// Due at once, for the process that finds it first.
	oweInTxSQL = `
INSERT INTO callbacks (batch_id, seq, in_tx, due_at) SELECT *, true, now() FROM unnest($1::uuid[], $2::bigint[])`
)

var (
	finishOwedSQL = strings.TrimSuffix(finishSQL, finishedSQL) + owedSQL
	finishOweSQL  = strings.TrimSuffix(finishSQL, "\n"+finishedSQL) + oweSQL + owedSQL
)

// FinishOwing is Finish for a program that is to be called of the results. They are
// returned as they were written; those of a newer owner are not among them.
//
// Calls of Later are the daemon's to make. A crash after the commit leaves them with
// a dead daemon, of which TakeCallbacks takes them. In the transaction, the program's
// part of it is rolled back to where it began if InTx fails, which deferred says, and
// the rest is committed: an answer that was paid for is never lost for it.
func (s *Store) FinishOwing(ctx context.Context, daemon batch.DaemonID, completions []Completion, releases []Release, o Owing) (
	written map[batch.RequestID]bool, results []batch.Result, deferred, err error,
) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	f := owedFlush{Owing: o, daemon: daemon, completions: completions, releases: releases}
	err = f.write(ctx, s.db)
	if err != nil && f.deferred != nil && ctx.Err() == nil {
		// The program took the connection with it, such as by a statement that its
		// time ran out in. It is not asked again.
		failed := f.deferred
		f.InTx = func(context.Context, pgx.Tx, []batch.Result) error { return failed }
		err = f.write(ctx, s.db)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("storing results: %w", err)
	}
	return f.written, f.results, f.deferred, nil
}

// owedFlush is a flush of which somebody is to be called, and what it wrote.
type owedFlush struct {
	Owing
	daemon      batch.DaemonID
	completions []Completion
	releases    []Release

	written  map[batch.RequestID]bool
	results  []batch.Result
	batches  [][16]byte // of results
	seqs     []int64
	deferred error // of InTx
}

func (f *owedFlush) write(ctx context.Context, db database) error {
	f.written = make(map[batch.RequestID]bool, len(f.completions)+len(f.releases))
	f.results, f.batches, f.seqs, f.deferred = nil, nil, nil, nil
	sql := finishOwedSQL
	if f.Later {
		sql = finishOweSQL
	}
	var b pgx.Batch
	queueFinish(&b, f.daemon, f.completions, f.releases, sql, f.completed, f.released)
	if f.InTx == nil {
		return db.SendBatch(ctx, &b).Close()
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := tx.SendBatch(ctx, &b).Close(); err != nil || len(f.results) == 0 {
			return err
		}
		f.deferred = callInTx(ctx, tx, f.InTx, f.results)
		if f.deferred != nil {
			_, err := tx.Exec(ctx, oweInTxSQL, f.batches, f.seqs)
			return err
		}
		return nil
	})
}

func (f *owedFlush) completed(rows pgx.Rows) error {
	byID := make(map[batch.RequestID]*Completion, len(f.completions))
	for i := range f.completions {
		byID[f.completions[i].ID] = &f.completions[i]
	}
	for rows.Next() {
		var r batch.Result
		if err := rows.Scan((*[16]byte)(&r.ID.Batch), &r.ID.Line, &r.Seq, &r.CustomID); err != nil {
			return err
		}
		f.written[r.ID] = true
		if r.ID.Line == 0 {
			continue // a batch whose budget is spent
		}
		c := byID[r.ID]
		r.State, r.Reason, r.StatusCode, r.RequestID = c.State, c.Reason, c.StatusCode, c.RequestID
		r.Body, r.Attempts, r.Detail, r.Cause = c.Body, c.Attempts, c.Detail, c.Cause
		f.results = append(f.results, r)
		f.batches, f.seqs = append(f.batches, [16]byte(r.ID.Batch)), append(f.seqs, r.Seq)
	}
	return rows.Err()
}

func (f *owedFlush) released(rows pgx.Rows) error {
	for rows.Next() {
		var id batch.RequestID
		if err := rows.Scan((*[16]byte)(&id.Batch), &id.Line); err != nil {
			return err
		}
		f.written[id] = true
	}
	return rows.Err()
}

// inTxTimeout bounds what a program does in a transaction of ours: it holds the
// rows of batches locked.
const inTxTimeout = 10 * time.Second

// plannerSQL is for the program's statements: ours walk indexes and nothing else.
var plannerSQL = pgconnect.UnpinPlannerSQL()

// callInTx calls a program within a savepoint, to which its error, its panic and its
// own rollback go back.
func callInTx(ctx context.Context, tx pgx.Tx, call InTx, results []batch.Result) error {
	ctx, cancel := context.WithTimeout(ctx, inTxTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		if _, err := tx.Exec(ctx, plannerSQL); err != nil {
			return err
		}
		return call(ctx, tx, results)
	})
}
