package batch

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
)

// Budget is the most that the completed requests of a batch may use. The zero Budget
// bounds nothing; with both bounds, the one that is reached first counts.
type Budget struct {
	Tokens int64 // of prompts and completions; 0: any number
	Cost   Money // 0: any amount
	// Prices are those that the cost is counted by: of each model of the batch by
	// its name, and under the empty name the highest, for models that its requests
	// escalate to.
	Prices Prices
}

// The keys of a batch's metadata that give its budget to clients that know no such
// field.
const (
	BudgetTokensKey = "fusillade-budget-tokens"
	BudgetCostKey   = "fusillade-budget-cost"
)

// MaxBudgetTokens is the largest budget in tokens: what the usage of a batch is cut
// off at.
const MaxBudgetTokens = 4_000_000_000_000_000

var (
	// ErrBudgetTokens is returned for what is no budget in tokens.
	ErrBudgetTokens = errors.New("must be a whole number of tokens, at least 1")
	// ErrBudgetCost is returned for what is no budget in money.
	ErrBudgetCost = errors.New("must be an amount such as 2.50, above 0 and at most 1000000, with at most six decimal places")
)

// ParseBudgetTokens reads a budget in tokens, or returns ErrBudgetTokens.
func ParseBudgetTokens(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > MaxBudgetTokens {
		return 0, ErrBudgetTokens
	}
	return n, nil
}

// ParseBudgetCost reads a budget in money, or returns ErrBudgetCost.
func ParseBudgetCost(text string) (Money, error) {
	cost, err := ParseMoney(text)
	if err != nil || cost == 0 || cost > maxMoney*moneyUnit {
		return 0, ErrBudgetCost
	}
	return cost, nil
}

// ParseBudget reads both, each of which may be empty.
func ParseBudget(tokens, cost string) (b Budget, err error) {
	if tokens != "" {
		if b.Tokens, err = ParseBudgetTokens(tokens); err != nil {
			return Budget{}, err
		}
	}
	if cost != "" {
		b.Cost, err = ParseBudgetCost(cost)
	}
	return b, err
}

// IsZero reports whether the budget bounds nothing.
func (b Budget) IsZero() bool { return b.Tokens == 0 && b.Cost == 0 }

// UnpricedError is returned for a budget in money of models without a price.
type UnpricedError struct {
	Model  Model // one of them
	Others int   // how many more there are
}

// Error names a model.
func (e *UnpricedError) Error() string {
	if e.Others > 0 {
		return fmt.Sprintf("a budget in money needs a price of each model, and %q and %d more have none", e.Model, e.Others)
	}
	return fmt.Sprintf("a budget in money needs a price of each model, and %q has none", e.Model)
}

func (*UnpricedError) refused() {}

// WithPrices returns the budget with the prices of the models, if it is one in money.
// It returns an *UnpricedError if a model has no price.
func (b Budget) WithPrices(prices Prices, models []Model) (Budget, error) {
	b.Prices = nil
	if b.Cost == 0 {
		return b, nil
	}
	b.Prices = make(Prices, len(models)+1)
	var missing *UnpricedError
	var highest Price
	for _, m := range models {
		price, found := prices.Of(m)
		switch {
		case found:
			b.Prices[m] = price
			highest.Prompt, highest.Completion = max(highest.Prompt, price.Prompt), max(highest.Completion, price.Completion)
		case missing == nil:
			missing = &UnpricedError{Model: m}
		default:
			missing.Others++
		}
	}
	if missing != nil {
		return Budget{}, missing
	}
	b.Prices[""] = highest
	return b, nil
}

// Bill adds up what models have used, by the budget's prices.
type Bill struct {
	budget Budget
	tokens int64
	cost   big.Int // in millionths of millionths
}

// NewBill returns a bill of nothing.
func (b Budget) NewBill() *Bill { return &Bill{budget: b} }

// Add adds what a model has used.
func (l *Bill) Add(model Model, promptTokens, completionTokens int64) {
	l.tokens += promptTokens + completionTokens
	price, found := l.budget.Prices[model]
	if !found {
		price = l.budget.Prices[""]
	}
	for _, part := range [...]struct {
		price  Money
		tokens int64
	}{{price.Prompt, promptTokens}, {price.Completion, completionTokens}} {
		l.cost.Add(&l.cost, new(big.Int).Mul(big.NewInt(int64(part.price)), big.NewInt(part.tokens)))
	}
}

// Tokens is the number of tokens so far.
func (l *Bill) Tokens() int64 { return l.tokens }

// Cost is the sum so far, rounded up to a millionth. It is 0 without prices.
func (l *Bill) Cost() Money {
	const tokens = 1_000_000
	sum := new(big.Int).Add(&l.cost, big.NewInt(tokens-1))
	if sum.Quo(sum, big.NewInt(tokens)); !sum.IsInt64() {
		return math.MaxInt64
	}
	return Money(sum.Int64())
}

// Spent reports whether the budget is spent: nothing is left of one of its bounds.
func (l *Bill) Spent() bool {
	b := l.budget
	return b.Tokens > 0 && l.tokens >= b.Tokens || b.Cost > 0 && l.Cost() >= b.Cost
}
