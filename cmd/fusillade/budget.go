package main

import (
	"cmp"
	"fmt"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
)

// budgetFlags give a batch a budget.
type budgetFlags struct {
	BudgetTokens string `placeholder:"N" help:"Most tokens, of prompts and completions, that the batch may use: then what is in flight ends, and the rest is canceled."`
	BudgetCost   string `placeholder:"AMOUNT" help:"The same in money, by the prices in FUSILLADE_MODEL_PRICES, such as 12.50."`
}

// budget reads them.
func (f budgetFlags) budget() (b batch.Budget, err error) {
	if f.BudgetTokens != "" {
		if b.Tokens, err = batch.ParseBudgetTokens(f.BudgetTokens); err != nil {
			return b, cli.Usage(fmt.Errorf("--budget-tokens %w", err))
		}
	}
	if f.BudgetCost != "" {
		if b.Cost, err = batch.ParseBudgetCost(f.BudgetCost); err != nil {
			return b, cli.Usage(fmt.Errorf("--budget-cost %w", err))
		}
	}
	return b, nil
}

// asked is the budget as the API wants it; nil: there is none.
func asked(b batch.Budget) *client.Budget {
	if b.IsZero() {
		return nil
	}
	out := &client.Budget{Tokens: b.Tokens}
	if b.Cost > 0 {
		out.Cost = b.Cost.String()
	}
	return out
}

// spentNote says how a batch goes on whose budget is spent; empty: it is not.
func spentNote(b client.Batch) string {
	if b.Budget == nil || b.Budget.ExceededAt == 0 {
		return ""
	}
	flag := "--budget-tokens N"
	if b.Budget.Tokens == 0 {
		flag = "--budget-cost AMOUNT"
	}
	return fmt.Sprintf("its budget is spent (%s); to go on: fusillade batches set %s %s, then fusillade batches rerun %[2]s --canceled",
		cmp.Or(b.Budget.String(), "-"), b.ID, flag)
}
