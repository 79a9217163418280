package api

import (
	"context"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	paramBudget       = "budget"
	paramBudgetTokens = "budget.tokens"
	paramBudgetCost   = "budget.cost"
)

// budgetBody is a budget as a client sends it. Without members it is none.
type budgetBody struct {
	Tokens *int64  `json:"tokens"`
	Cost   *string `json:"cost"`
}

// read checks it. A nil body is no budget.
func (b *budgetBody) read(in *input) (budget batch.Budget) {
	if b == nil {
		return budget
	}
	if b.Tokens != nil {
		if budget.Tokens = *b.Tokens; budget.Tokens < 1 || budget.Tokens > batch.MaxBudgetTokens {
			in.fail(invalid(paramBudgetTokens, codeInvalid, "budget.tokens %v.", batch.ErrBudgetTokens))
		}
	}
	if b.Cost != nil {
		var err error
		if budget.Cost, err = batch.ParseBudgetCost(*b.Cost); err != nil {
			in.fail(invalid(paramBudgetCost, codeInvalid, "budget.cost %v.", err))
		}
	}
	return budget
}

// readBudget reads a budget from its field, or from the metadata, which every client
// can send.
func readBudget(in *input, field *budgetBody, metadata map[string]string) batch.Budget {
	tokens, cost := metadata[batch.BudgetTokensKey], metadata[batch.BudgetCostKey]
	for key, check := range map[string]func(string) error{
		batch.BudgetTokensKey: func(text string) error { _, err := batch.ParseBudgetTokens(text); return err },
		batch.BudgetCostKey:   func(text string) error { _, err := batch.ParseBudgetCost(text); return err },
	} {
		if text, given := metadata[key]; given {
			if err := check(text); err != nil {
				in.fail(invalid("metadata."+key, codeInvalid, "metadata.%s %v.", key, err))
				return batch.Budget{}
			}
		}
	}
	fromMetadata, _ := batch.ParseBudget(tokens, cost) // each was checked
	if field == nil {
		return fromMetadata
	}
	budget := field.read(in)
	if tokens+cost != "" && (budget.Tokens != fromMetadata.Tokens || budget.Cost != fromMetadata.Cost) {
		in.fail(invalid(paramBudget, codeInvalid, "budget is another one than metadata.%s and metadata.%s say.", batch.BudgetTokensKey, batch.BudgetCostKey))
	}
	return budget
}

// priced gives a budget in money the prices of the file's models, as they are now. It
// returns a *batch.UnpricedError.
func (s *Server) priced(ctx context.Context, budget batch.Budget, file batch.FileID) (batch.Budget, error) {
	if budget.Cost == 0 {
		return budget, nil
	}
	models, err := s.cfg.Store.FileModels(ctx, file)
	if err != nil {
		return budget, err
	}
	return budget.WithPrices(s.cfg.Prices, models)
}

// unpriced is the answer to a budget in money where there are no prices.
func unpriced(e *batch.UnpricedError) *apiError {
	return invalid(paramBudgetCost, "model_without_price",
		"The budget cannot be counted: %v. An operator sets prices in FUSILLADE_MODEL_PRICES; budget.tokens needs none.", e)
}

// budgetObject is a batch's budget, and what of it is spent. What has no bound is null.
type budgetObject struct {
	Tokens      *int64  `json:"tokens"`
	Cost        *string `json:"cost"`
	SpentTokens int64   `json:"spent_tokens"`
	SpentCost   *string `json:"spent_cost"`
	ExceededAt  *int64  `json:"exceeded_at"`
}

func asBudget(b postgres.Batch) *budgetObject {
	if b.Budget.IsZero() {
		return nil
	}
	bill := b.Bill()
	out := &budgetObject{SpentTokens: bill.Tokens(), ExceededAt: unix(b.BudgetExceededAt)}
	if b.Budget.Tokens > 0 {
		out.Tokens = &b.Budget.Tokens
	}
	if b.Budget.Cost > 0 {
		out.Cost, out.SpentCost = optional(b.Budget.Cost.String()), optional(bill.Cost().String())
	}
	return out
}
