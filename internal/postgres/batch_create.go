package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// NewBatch is what a batch is created from.
type NewBatch struct {
	File             batch.FileID
	Endpoint         string // empty: the file's own
	CompletionWindow time.Duration
	WindowText       string // as the owner wrote it, such as 24h
	Metadata         map[string]string
	CreatedBy        string // the owner, of the file too
	// Priority orders it among the owner's batches; the highest comes first.
	Priority int
	// Budget has the prices of the file's models, if it is one in money.
	Budget         batch.Budget
	IdempotencyKey string // empty: none
	// OutputExpiry is how long after the batch has finished its output can be
	// read; 0: for ever.
	OutputExpiry time.Duration
	// Allowance bounds what the owner may have in progress with it.
	Allowance batch.Allowance
	// EncryptKey encrypts the API key that the batch has for its calls; nil: it
	// has none of its own.
	EncryptKey func(batch.ID) (SealedBatchKey, error)
	// TraceContext is that of its creation, as tracing.Encode writes it; empty: there
	// is no trace.
	TraceContext string
	// Job is set for a batch that is made of a local file.
	Job *NewJob
}

const (
	// What one owner creates and reruns takes turns, so that nothing is overlooked
	// when the allowance is checked. The first lock that a transaction takes.
	lockOwnerSQL  = `SELECT pg_advisory_xact_lock(hashtextextended('fusillade batches of ' || $1, 0))`
	batchByKeySQL = `SELECT id FROM batches WHERE created_by = $1 AND idempotency_key = $2`
	// The lock keeps the file from being deleted meanwhile, so that a deletion of
	// the file finds all of its batches.
	newFileSQL = `
SELECT requests FROM files
 WHERE id = $1 AND created_by = $2 AND status = 'ready' AND (expires_at > now()) IS NOT false
   FOR SHARE`

	// One row per model of the file, whatever the number of requests.
	createBatchSQL = `
WITH b AS (
    INSERT INTO batches (id, file_id, endpoint, completion_window, expires_at, metadata, created_by, idempotency_key,
                         output_expires_after, priority, trace_context, budget_tokens, budget_cost, budget_prices, total)
    SELECT $1, f.id, COALESCE(NULLIF($3, ''), f.endpoint), $4, now() + $5::interval, $6::jsonb, $7, NULLIF($8, ''),
           NULLIF($9::interval, '0'), $10, NULLIF($11, ''), NULLIF($12::bigint, 0), NULLIF($13::bigint, 0), $14, f.requests
      FROM files f WHERE f.id = $2
    RETURNING id, file_id
)
INSERT INTO cursors (batch_id, model, file_id, total)
SELECT b.id, m.model, m.file_id, m.requests FROM b JOIN file_models m ON m.file_id = b.file_id`
)

// CreateBatch makes every request of the owner's file pending, in time
// proportional to the number of models in it. Under an idempotency key that the
// owner has used before, it returns the batch made then, and false. It returns
// batch.ErrNotFound for a file that is not theirs or not ready, and a
// *batch.AllowanceError.
func (s *Store) CreateBatch(ctx context.Context, n NewBatch) (id batch.ID, created bool, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		id, created = batch.ID{}, false
		found, err := n.look(ctx, tx)
		switch {
		case err != nil:
			return err
		case found.made != (batch.ID{}):
			id = found.made
			return nil
		case found.requests == 0:
			return batch.ErrNotFound
		}
		if n.Allowance != (batch.Allowance{}) {
			if err := n.Allowance.Check(found.active, found.queued, 1, found.requests); err != nil {
				return err
			}
		}
		id, created = newID(), true
		return n.insert(ctx, tx, id)
	})
	if err != nil {
		return batch.ID{}, false, fmt.Errorf("creating batch: %w", err)
	}
	return id, created, nil
}

// standing is what a new batch depends on.
type standing struct {
	made     batch.ID // under its idempotency key; zero: none was
	requests int64    // in its file; 0: there is no such file
	active   int      // batches that the owner has in progress
	queued   int64    // and their requests
}

// look locks the owner and reads what the batch depends on, in one round trip. Each
// statement sees what was committed before the lock was granted.
func (n *NewBatch) look(ctx context.Context, tx pgx.Tx) (found standing, err error) {
	var b pgx.Batch
	b.Queue(lockOwnerSQL, n.CreatedBy)
	optional := func(row pgx.Row, into ...any) error {
		if err := row.Scan(into...); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	}
	if n.IdempotencyKey != "" {
		b.Queue(batchByKeySQL, n.CreatedBy, n.IdempotencyKey).QueryRow(func(row pgx.Row) error {
			return optional(row, (*[16]byte)(&found.made))
		})
	}
	b.Queue(newFileSQL, [16]byte(n.File), n.CreatedBy).QueryRow(func(row pgx.Row) error { return optional(row, &found.requests) })
	if n.Allowance != (batch.Allowance{}) {
		b.Queue(inProgressSQL, n.CreatedBy).QueryRow(func(row pgx.Row) error { return row.Scan(&found.active, &found.queued) })
	}
	err = tx.SendBatch(ctx, &b).Close()
	return found, translate(err)
}

func (n *NewBatch) insert(ctx context.Context, tx pgx.Tx, id batch.ID) error {
	args, err := n.args(id)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, createBatchSQL, args...)
	if err == nil && n.Job != nil {
		_, err = tx.Exec(ctx, newJobSQL, [16]byte(id), n.Job.Input, n.Job.Endpoint)
	}
	if err != nil || n.EncryptKey == nil {
		return err
	}
	return storeOwnKey(ctx, tx, id, n.EncryptKey)
}

// args are those of createBatchSQL.
func (n *NewBatch) args(id batch.ID) ([]any, error) {
	metadata := n.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	encoded, err := json.Marshal(metadata)
	if err != nil {
		return nil, err
	}
	return []any{[16]byte(id), [16]byte(n.File), n.Endpoint, n.WindowText, n.CompletionWindow, encoded,
		n.CreatedBy, n.IdempotencyKey, n.OutputExpiry, n.Priority, n.TraceContext,
		n.Budget.Tokens, int64(n.Budget.Cost), pricesOf(n.Budget)}, nil
}

// As many rows as the owner has batches in progress.
const inProgressSQL = `
SELECT count(*), COALESCE(sum(total - completed - failed - canceled - expired), 0)::bigint
  FROM batches WHERE created_by = $1 AND status = 'in_progress'`

// checkAllowance returns a *batch.AllowanceError if so many more batches and
// requests in progress exceed it. The owner's lock is held.
func checkAllowance(ctx context.Context, tx pgx.Tx, owner string, a batch.Allowance, batches int, requests int64) error {
	if a == (batch.Allowance{}) {
		return nil
	}
	var active int
	var queued int64
	if err := tx.QueryRow(ctx, inProgressSQL, owner).Scan(&active, &queued); err != nil {
		return err
	}
	return a.Check(active, queued, batches, requests)
}

// FindBatch returns the batch that was created under an idempotency key, or
// batch.ErrNotFound.
func (s *Store) FindBatch(ctx context.Context, owner, idempotencyKey string) (batch.ID, error) {
	var id [16]byte
	if err := s.queryRow(ctx, batchByKeySQL, []any{owner, idempotencyKey}, &id); err != nil {
		return batch.ID{}, fmt.Errorf("looking for batch: %w", err)
	}
	return batch.ID(id), nil
}
