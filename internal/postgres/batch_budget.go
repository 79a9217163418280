package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// price is how a batch's row has a price: of prompts and of completions.
type price [2]batch.Money

// pricesOf and pricesIn convert between a budget and a batch's row; no prices are null.
func pricesOf(b batch.Budget) any {
	if b.Prices == nil {
		return nil
	}
	out := make(map[string]price, len(b.Prices))
	for model, p := range b.Prices {
		out[string(model)] = price{p.Prompt, p.Completion}
	}
	return out
}

func pricesIn(row map[string]price) batch.Prices {
	if row == nil {
		return nil
	}
	out := make(batch.Prices, len(row))
	for model, p := range row {
		out[batch.Model(model)] = batch.Price{Prompt: p[0], Completion: p[1]}
	}
	return out
}

// budgetSpentSQL says whether what is stored of a batch b has spent its budget, with
// what a statement is about to add. It is false without a budget. Beside batch_usage
// it costs as many rows as the batch has models.
func budgetSpentSQL(more string) string {
	return `(
       SELECT COALESCE(sum(u.input + u.output) >= b.budget_tokens, false)
           OR COALESCE(sum(u.input * (p.price ->> 0)::numeric + u.output * (p.price ->> 1)::numeric) >= b.budget_cost * 1000000::numeric, false)
         FROM (SELECT model, input_tokens AS input, output_tokens AS output FROM batch_usage WHERE batch_id = b.id` + more + `) u
        CROSS JOIN LATERAL (SELECT COALESCE(b.budget_prices -> u.model, b.budget_prices -> '') AS price) p)`
}

var (
	// In the statement that stores results: a batch that goes on and has a budget
	// is found to have spent it by the flush that does, whichever of those that
	// follow one another under the lock of its row. Others pay nothing for it.
	exceedBudgetSQL = `
           budget_exceeded_at = CASE
               WHEN num_nonnulls(b.budget_tokens, b.budget_cost) = 0 OR b.budget_exceeded_at IS NOT NULL OR b.cancelling_at IS NOT NULL
                    OR NOT (` + unfinishedSQL + `) THEN b.budget_exceeded_at
               WHEN ` + budgetSpentSQL(` UNION ALL SELECT routed_model, prompt_tokens, completion_tokens FROM gone WHERE batch_id = b.id AND state = 'completed'`) + ` THEN now() END`

	isSpentSQL = `SELECT ` + budgetSpentSQL("") + ` FROM batches b WHERE b.id = $1`

	// Of a batch that has ended, what it says of its end stays.
	setBudgetSQL = `
UPDATE batches b
   SET budget_exceeded_at = CASE WHEN b.status <> 'in_progress' OR b.cancelling_at IS NOT NULL THEN b.budget_exceeded_at
                                 WHEN ` + budgetSpentSQL("") + ` THEN COALESCE(b.budget_exceeded_at, clock_timestamp()) END
 WHERE b.id = $1
RETURNING b.budget_exceeded_at IS NOT NULL AND b.status = 'in_progress'`
)

const (
	storeBudgetSQL = `
UPDATE batches SET budget_tokens = NULLIF($2::bigint, 0), budget_cost = NULLIF($3::bigint, 0), budget_prices = $4 WHERE id = $1`

	// Batches whose budget is spent, and that have something that is not being
	// called: from an index of just those batches.
	exceededSQL = `
SELECT b.id FROM batches b
 WHERE b.status = 'in_progress' AND b.budget_exceeded_at IS NOT NULL AND b.cancelling_at IS NULL
   AND (EXISTS (SELECT FROM cursors WHERE batch_id = b.id AND open)
        OR EXISTS (SELECT FROM requests WHERE batch_id = b.id AND state <> 'processing'))
 ORDER BY b.budget_exceeded_at OFFSET $1 LIMIT $2`

	// Checked again under the lock: the budget may have been raised.
	isExceededSQL = `
SELECT status = 'in_progress' AND budget_exceeded_at IS NOT NULL AND cancelling_at IS NULL FROM batches WHERE id = $1`
)

// setBudget gives a locked batch another budget. It reports whether that is spent
// already, and requests of the batch are to be canceled.
func setBudget(ctx context.Context, tx pgx.Tx, id batch.ID, budget batch.Budget) (spent bool, err error) {
	if _, err := tx.Exec(ctx, storeBudgetSQL, [16]byte(id), budget.Tokens, int64(budget.Cost), pricesOf(budget)); err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, setBudgetSQL, [16]byte(id)).Scan(&spent)
	return spent, err
}

// Overspent is a batch of which requests ended because its budget is spent.
type Overspent struct {
	Batch    batch.ID
	Requests int  // that ended now
	Finished bool // the batch has finished with them; else calls are in flight
}

// EndOverBudget ends what is left of up to n batches whose budget is spent, but for
// the requests that are processing: those finish as their calls do. What is released
// of them, for another attempt or by a consumer that stops, ends at the next call.
//
// It returns the batches of which something ended, also with an error: one that
// fails does not keep it from the others. A batch with very many live requests takes
// several transactions; after a crash in between the next call goes on.
func (s *Store) EndOverBudget(ctx context.Context, n int) ([]Overspent, error) {
	var out []Overspent
	var failed []error
	for ctx.Err() == nil {
		ids, err := s.batchIDs(ctx, exceededSQL, len(failed), n)
		if err != nil {
			failed = append(failed, fmt.Errorf("looking for spent budgets: %w", err))
			break
		}
		before := len(failed)
		for _, id := range ids {
			e, err := s.endOverBudget(ctx, id)
			if err != nil && !errors.Is(err, batch.ErrNotFound) { // deleted since
				failed = append(failed, fmt.Errorf("ending what exceeds the budget of %s: %w", id, err))
			}
			if e.Requests > 0 {
				out = append(out, e)
			}
		}
		if len(ids) < n || len(failed) == before || len(failed) >= maxFailures {
			break
		}
	}
	return out, errors.Join(failed...)
}

func (s *Store) endOverBudget(ctx context.Context, id batch.ID) (Overspent, error) {
	e := Overspent{Batch: id}
	for more := true; more; {
		var done slice
		err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			done = slice{}
			if _, err := lockBatch(ctx, tx, id); err != nil {
				return err
			}
			var exceeded bool
			err := tx.QueryRow(ctx, isExceededSQL, [16]byte(id)).Scan(&exceeded)
			if err == nil && exceeded {
				done, err = s.finishSlice(ctx, tx, id, asOverBudget)
			}
			return err
		})
		if err != nil {
			return e, err
		}
		e.Requests += done.finished
		e.Finished = done.status.Terminal()
		more = done.full && !e.Finished
	}
	return e, nil
}
