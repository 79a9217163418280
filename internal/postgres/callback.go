package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Callback is a call that a program is owed of one result.
type Callback struct {
	Batch batch.ID
	Seq   int64 // the result's place
	InTx  bool  // the call is a part of the transaction that settles it
	Tries int   // that failed
}

// InTx is called in a transaction, with results that it writes. It must not end it.
type InTx func(ctx context.Context, tx pgx.Tx, results []batch.Result) error

// takeCallbacksSQL takes what is due, and what dead daemons have. Whose daemons
// those are is found by one look into the index for each.
const takeCallbacksSQL = `
WITH RECURSIVE owners AS (
    (SELECT daemon_id FROM callbacks WHERE daemon_id IS NOT NULL ORDER BY daemon_id LIMIT 1)
     UNION ALL
    SELECT (SELECT daemon_id FROM callbacks WHERE daemon_id > o.daemon_id ORDER BY daemon_id LIMIT 1) FROM owners o WHERE o.daemon_id IS NOT NULL
), dead AS MATERIALIZED (
    SELECT daemon_id FROM owners o
     WHERE daemon_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM daemons d WHERE d.id = o.daemon_id AND d.status <> 'dead' AND d.last_heartbeat > now() - $2::interval)
), due AS MATERIALIZED (
    SELECT batch_id, seq, in_tx FROM callbacks
     WHERE due_at <= now() AND in_tx = ANY ($3::bool[]) ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED
), abandoned AS MATERIALIZED (
    SELECT batch_id, seq, in_tx FROM callbacks
     WHERE daemon_id IN (SELECT daemon_id FROM dead) AND in_tx = ANY ($3::bool[]) LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE callbacks c SET daemon_id = $1, due_at = NULL
  FROM (SELECT * FROM due UNION ALL SELECT * FROM abandoned) t
 WHERE c.batch_id = t.batch_id AND c.seq = t.seq AND c.in_tx = t.in_tx
RETURNING c.batch_id, c.seq, c.in_tx, c.tries`

// TakeCallbacks makes a daemon the one that makes up to twice n calls of the kinds:
// those that are due, and those of daemons without a heartbeat for the time.
func (s *Store) TakeCallbacks(ctx context.Context, daemon batch.DaemonID, stale time.Duration, later, inTx bool, n int) ([]Callback, error) {
	var kinds []bool
	if later {
		kinds = append(kinds, false)
	}
	if inTx {
		kinds = append(kinds, true)
	}
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (c Callback, err error) {
		err = row.Scan((*[16]byte)(&c.Batch), &c.Seq, &c.InTx, &c.Tries)
		return c, err
	}, takeCallbacksSQL, [16]byte(daemon), stale, kinds, n)
	if err != nil {
		return nil, fmt.Errorf("taking callbacks: %w", err)
	}
	return list, nil
}

// A daemon that knows nothing of a call that it is to make has lost the answer to
// the write that owed it. It is due at once then.
const releaseCallbacksSQL = `
UPDATE callbacks c SET daemon_id = NULL, due_at = now()
 WHERE daemon_id = $1 AND NOT EXISTS (
       SELECT FROM unnest($2::uuid[], $3::bigint[], $4::bool[]) AS k (batch_id, seq, in_tx)
        WHERE k.batch_id = c.batch_id AND k.seq = c.seq AND k.in_tx = c.in_tx)`

// ReleaseCallbacks releases what a daemon has to call, but for what it knows of.
func (s *Store) ReleaseCallbacks(ctx context.Context, daemon batch.DaemonID, known []Callback) error {
	k := callbackKeys(known)
	if _, err := s.exec(ctx, releaseCallbacksSQL, [16]byte(daemon), k.batches, k.seqs, k.inTx); err != nil {
		return fmt.Errorf("giving back callbacks: %w", err)
	}
	return nil
}

type callbackArrays struct {
	batches [][16]byte
	seqs    []int64
	inTx    []bool
}

func callbackKeys(list []Callback) callbackArrays {
	k := callbackArrays{make([][16]byte, len(list)), make([]int64, len(list)), make([]bool, len(list))}
	for i, c := range list {
		k.batches[i], k.seqs[i], k.inTx[i] = [16]byte(c.Batch), c.Seq, c.InTx
	}
	return k
}

const (
	doneCallbacksSQL = `
DELETE FROM callbacks c USING unnest($1::uuid[], $2::bigint[], $3::bool[]) AS k (batch_id, seq, in_tx)
 WHERE c.batch_id = k.batch_id AND c.seq = k.seq AND c.in_tx = k.in_tx`

	// Of this daemon alone: another may have taken it over.
	failedCallbacksSQL = `
UPDATE callbacks c SET daemon_id = NULL, tries = c.tries + 1, due_at = now() + k.delay_us * interval '1 us'
  FROM unnest($2::uuid[], $3::bigint[], $4::bool[], $5::bigint[]) AS k (batch_id, seq, in_tx, delay_us)
 WHERE c.batch_id = k.batch_id AND c.seq = k.seq AND c.in_tx = k.in_tx AND c.daemon_id = $1`
)

// FailedCallback is a call that failed, and is to be made again after the delay.
type FailedCallback struct {
	Callback
	Delay time.Duration
}

// SettleCallbacks records calls that were made, and calls that failed.
func (s *Store) SettleCallbacks(ctx context.Context, daemon batch.DaemonID, made []Callback, failed []FailedCallback) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var b pgx.Batch
	if len(made) > 0 {
		k := callbackKeys(made)
		b.Queue(doneCallbacksSQL, k.batches, k.seqs, k.inTx)
	}
	if len(failed) > 0 {
		keys, delays := make([]Callback, len(failed)), make([]int64, len(failed))
		for i, f := range failed {
			keys[i], delays[i] = f.Callback, f.Delay.Microseconds()
		}
		k := callbackKeys(keys)
		b.Queue(failedCallbacksSQL, [16]byte(daemon), k.batches, k.seqs, k.inTx, delays)
	}
	if err := s.db.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("settling callbacks: %w", err)
	}
	return nil
}

const (
	owedResultSQL = `
SELECT r.line, r.state, COALESCE(r.reason, ''), COALESCE(r.status_code, 0), COALESCE(r.upstream_request_id, ''), r.body, r.attempts,
       COALESCE(t.custom_id, ''), COALESCE(r.detail, ''), COALESCE(r.cause, '')
  FROM results r
  JOIN batches b ON b.id = r.batch_id
  LEFT JOIN LATERAL (SELECT custom_id FROM templates WHERE file_id = b.file_id AND line = r.line LIMIT 1) t ON true
 WHERE r.batch_id = $1 AND r.seq = $2 AND b.deleted_at IS NULL`

	settleInTxSQL = `DELETE FROM callbacks WHERE batch_id = $1 AND seq = $2 AND in_tx AND daemon_id = $3`
)

// OwedResult reads the result that a call is of. batch.ErrNotFound: it was deleted or
// is being called again; nothing is owed of it any more.
func (s *Store) OwedResult(ctx context.Context, c Callback) (batch.Result, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return owedResult(ctx, s.db, c)
}

func owedResult(ctx context.Context, db pgxQuerier, c Callback) (batch.Result, error) {
	r := batch.Result{ID: batch.RequestID{Batch: c.Batch}, Seq: c.Seq}
	err := db.QueryRow(ctx, owedResultSQL, [16]byte(c.Batch), c.Seq).Scan(&r.ID.Line, (*string)(&r.State), (*string)(&r.Reason), &r.StatusCode, &r.RequestID,
		&r.Body, &r.Attempts, &r.CustomID, &r.Detail, &r.Cause)
	if err != nil {
		return batch.Result{}, fmt.Errorf("reading a result: %w", translate(err))
	}
	return r, nil
}

// CallInTx makes a call that is owed in a transaction, in the one that settles it: it
// takes effect once. called is false where another daemon has taken it over, or
// nothing is owed any more.
func (s *Store) CallInTx(ctx context.Context, daemon batch.DaemonID, c Callback, call InTx) (called bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, settleInTxSQL, [16]byte(c.Batch), c.Seq, [16]byte(daemon))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		r, err := owedResult(ctx, tx, c)
		if errors.Is(err, batch.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		called = true
		return callInTx(ctx, tx, call, []batch.Result{r})
	})
	return called && err == nil, err
}
