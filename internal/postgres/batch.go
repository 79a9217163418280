package postgres

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Batch is a batch as it was at one instant, with its counters.
type Batch struct {
	ID               batch.ID
	File             batch.FileID
	Endpoint         string
	CompletionWindow string // as its owner wrote it, such as 24h
	Metadata         map[string]string
	CreatedBy        string // its owner
	Priority         int    // among its owner's batches; the highest comes first
	Status           batch.Status
	CreatedAt        time.Time
	ExpiresAt        time.Time
	FinishedAt       time.Time // zero: not yet
	CancellingAt     time.Time // zero: it was not cancelled
	Counts           batch.Counts
	Usage            []ModelUsage // by model

	Budget           batch.Budget
	BudgetExceededAt time.Time // zero: it is not spent, or was with the last request

	OutputExpiry    time.Duration // how long its output can be read after it has finished; 0: for ever
	OutputExpiresAt time.Time     // zero: never, or not known before the batch finishes
	OutputDeleted   bool
	ErrorsDeleted   bool

	TraceContext string // of its creation, as tracing.Encode writes it; empty: there is no trace

	HasOwnKey bool // its calls must bear an API key of its own
}

// Unsuccessful is the number of lines of the error file.
func (b *Batch) Unsuccessful() int64 {
	return b.Counts.Failed + b.Counts.Canceled + b.Counts.Expired
}

// Bill adds up what the batch has used, by the prices of its budget.
func (b *Batch) Bill() *batch.Bill {
	bill := b.Budget.NewBill()
	for _, u := range b.Usage {
		bill.Add(batch.Model(u.Model), u.InputTokens, u.OutputTokens)
	}
	return bill
}

// One snapshot, in time proportional to the number of the batch's models: what
// the cursors have claimed and what has a result are counted in their rows.
const (
	batchesSQL = batchesHeadSQL + usageSQL + batchesTailSQL

	batchesHeadSQL = `
SELECT id, file_id, endpoint, completion_window, metadata, created_by, status, created_at, expires_at, finished_at, cancelling_at,
       total, completed, failed, canceled, expired, c.claimed, `
	batchesTailSQL = `,
       COALESCE(output_expires_after, '0'), finished_at + output_expires_after,
       output_deleted_at IS NOT NULL OR (finished_at + output_expires_after <= now()) IS true,
       error_deleted_at IS NOT NULL OR (finished_at + output_expires_after <= now()) IS true,
       brings_key, priority, COALESCE(trace_context, ''),
       COALESCE(budget_tokens, 0), COALESCE(budget_cost, 0), budget_prices, budget_exceeded_at
  FROM batches
 CROSS JOIN LATERAL (SELECT COALESCE(sum(claimed + skipped), 0)::bigint AS claimed FROM cursors WHERE batch_id = batches.id) c
 WHERE deleted_at IS NULL`
)

func scanBatch(row pgx.CollectableRow) (b Batch, err error) {
	var claimed int64
	var prices map[string]price
	n := &b.Counts
	err = row.Scan((*[16]byte)(&b.ID), (*[16]byte)(&b.File), &b.Endpoint, &b.CompletionWindow, &b.Metadata, &b.CreatedBy, &b.Status,
		&b.CreatedAt, &b.ExpiresAt, orZero(&b.FinishedAt), orZero(&b.CancellingAt),
		&n.Total, &n.Completed, &n.Failed, &n.Canceled, &n.Expired, &claimed, &b.Usage,
		&b.OutputExpiry, orZero(&b.OutputExpiresAt), &b.OutputDeleted, &b.ErrorsDeleted, &b.HasOwnKey, &b.Priority, &b.TraceContext,
		&b.Budget.Tokens, (*int64)(&b.Budget.Cost), &prices, orZero(&b.BudgetExceededAt))
	b.Budget.Prices = pricesIn(prices)
	n.Pending = n.Total - claimed
	n.InProgress = claimed - n.Done()
	return b, err
}

const (
	batchSQL    = batchesSQL + ` AND id = $1 AND created_by = COALESCE($2, created_by)`
	progressSQL = batchesHeadSQL + `NULL::jsonb` + batchesTailSQL + ` AND id = $1`
	ofFileSQL   = batchesSQL + ` AND file_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`
	ownersSQL   = batchesSQL + ` AND created_by = $1 AND id < $2 ORDER BY id DESC LIMIT $3`
)

// GetBatch returns a batch, or batch.ErrNotFound; also if there is an owner and
// the batch belongs to another. A nil owner is any.
func (s *Store) GetBatch(ctx context.Context, id batch.ID, owner *string) (Batch, error) {
	return s.oneBatch(ctx, batchSQL, [16]byte(id), owner)
}

// GetProgress is GetBatch without Usage, which costs more the more models there are:
// for who reads it again and again.
func (s *Store) GetProgress(ctx context.Context, id batch.ID) (Batch, error) {
	return s.oneBatch(ctx, progressSQL, [16]byte(id))
}

func (s *Store) oneBatch(ctx context.Context, sql string, args ...any) (Batch, error) {
	found, err := collect(ctx, s, scanBatch, sql, args...)
	if err == nil && len(found) == 0 {
		err = batch.ErrNotFound
	}
	if err != nil {
		return Batch{}, fmt.Errorf("reading batch: %w", err)
	}
	return found[0], nil
}

// FileBatches returns up to n of the batches that were made of a file, newest first, from
// the one that follows after; the zero id precedes all.
func (s *Store) FileBatches(ctx context.Context, file batch.FileID, after batch.ID, n int) ([]Batch, error) {
	if after == (batch.ID{}) {
		after = lastID
	}
	list, err := collect(ctx, s, scanBatch, ofFileSQL, [16]byte(file), [16]byte(after), n)
	if err != nil {
		return nil, fmt.Errorf("listing batches of a file: %w", err)
	}
	return list, nil
}

// ListBatches returns up to n of an owner's batches, newest first, from the one
// that follows after; the zero id precedes all.
func (s *Store) ListBatches(ctx context.Context, owner string, after batch.ID, n int) ([]Batch, error) {
	if after == (batch.ID{}) {
		after = batch.ID(bytes.Repeat([]byte{0xff}, 16))
	}
	list, err := collect(ctx, s, scanBatch, ownersSQL, owner, [16]byte(after), n)
	if err != nil {
		return nil, fmt.Errorf("listing batches: %w", err)
	}
	return list, nil
}
