package postgres

import (
	"context"
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

	// From an index of just the batches in progress that have a budget, and what each
	// has used of each of its models. Money is in millionths, and the price of a million tokens.
	openBudgetsSQL = `
SELECT COALESCE(sum(b.budget_tokens), 0)::float8, COALESCE(sum(u.tokens) FILTER (WHERE b.budget_tokens IS NOT NULL), 0)::float8,
       COALESCE(sum(b.budget_cost) / 1e6, 0)::float8, COALESCE(sum(u.cost) / 1e12, 0)::float8
  FROM batches b
 CROSS JOIN LATERAL (
       SELECT sum(u.input + u.output) AS tokens, sum(u.input * (p.price ->> 0)::numeric + u.output * (p.price ->> 1)::numeric) AS cost
         FROM (SELECT model, input_tokens AS input, output_tokens AS output FROM batch_usage WHERE batch_id = b.id) u
        CROSS JOIN LATERAL (SELECT COALESCE(b.budget_prices -> u.model, b.budget_prices -> '') AS price) p) u
 WHERE b.status = 'in_progress' AND (b.budget_tokens IS NOT NULL OR b.budget_cost IS NOT NULL)`
)

// BudgetUse is what budgets allow, and what is used of them.
type BudgetUse struct{ Limit, Used float64 }

// OpenBudgets are the budgets of all batches in progress, added up: those in tokens,
// and those in money. A batch may have both.
type OpenBudgets struct{ Tokens, Cost BudgetUse }

// OpenBudgets returns what the budgets of batches in progress allow, and what is used
// of them. It is for the leader, every few seconds.
func (s *Store) OpenBudgets(ctx context.Context) (b OpenBudgets, err error) {
	err = s.queryRow(ctx, openBudgetsSQL, nil, &b.Tokens.Limit, &b.Tokens.Used, &b.Cost.Limit, &b.Cost.Used)
	if err != nil {
		return b, fmt.Errorf("measuring budgets: %w", err)
	}
	return b, nil
}

// setBudget gives a locked batch another budget. It reports whether that is spent
// already, and requests of the batch are to be canceled.
func setBudget(ctx context.Context, tx pgx.Tx, id batch.ID, budget batch.Budget) (spent bool, err error) {
	if _, err := tx.Exec(ctx, storeBudgetSQL, [16]byte(id), budget.Tokens, int64(budget.Cost), pricesOf(budget)); err != nil {
		return false, err
	}
	err = tx.QueryRow(ctx, setBudgetSQL, [16]byte(id)).Scan(&spent)
	return spent, err
}

// EndOverBudget ends what is left of up to n batches whose budget is spent, but for
// the requests that are processing: those finish as their calls do. What is released
// of them, for another attempt or by a consumer that stops, ends at the next call.
//
// It returns the batches of which something ended, also with an error, as endBatches
// does.
func (s *Store) EndOverBudget(ctx context.Context, n int) ([]EndedBatch, error) {
	return s.endBatches(ctx, n, outsidePass{
		listSQL: exceededSQL, isDueSQL: isExceededSQL, as: asOverBudget,
		list: "looking for spent budgets", end: "ending what exceeds the budget of",
	})
}
