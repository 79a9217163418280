package batch

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseBudget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tokens, cost string
		want         Budget
		err          error
	}{
		{"", "", Budget{}, nil},
		{"1", "", Budget{Tokens: 1}, nil},
		{"4000000000000000", "1000000", Budget{Tokens: MaxBudgetTokens, Cost: 1_000_000_000_000}, nil},
		{"", "0.000001", Budget{Cost: 1}, nil},
		{"0", "", Budget{}, ErrBudgetTokens},
		{"-1", "", Budget{}, ErrBudgetTokens},
		{"1.5", "", Budget{}, ErrBudgetTokens},
		{"4000000000000001", "", Budget{}, ErrBudgetTokens},
		{"", "0", Budget{}, ErrBudgetCost},
		{"", "0.00", Budget{}, ErrBudgetCost},
		{"", "1000000.01", Budget{}, ErrBudgetCost},
		{"", "0.0000001", Budget{}, ErrBudgetCost},
		{"", "-1", Budget{}, ErrBudgetCost},
	} {
		got, err := ParseBudget(tt.tokens, tt.cost)
		if !errors.Is(err, tt.err) || err == nil && !cmp.Equal(got, tt.want) {
			t.Errorf("%q and %q are %+v, %v", tt.tokens, tt.cost, got, err)
		}
	}
}

func TestBudgetWithPrices(t *testing.T) {
	t.Parallel()
	prices := Prices{"a": {1, 20}, "b*": {10, 2}}
	if b, err := (Budget{Tokens: 5}).WithPrices(nil, []Model{"x"}); err != nil || b.Prices != nil {
		t.Errorf("%+v, %v", b, err)
	}
	b, err := Budget{Cost: 5}.WithPrices(prices, []Model{"a", "b1"})
	if diff := cmp.Diff(Prices{"a": {1, 20}, "b1": {10, 2}, "": {10, 20}}, b.Prices); diff != "" || err != nil {
		t.Error(diff, err)
	}
	_, err = Budget{Cost: 5}.WithPrices(prices, []Model{"c", "a", "d", "e"})
	var unpriced *UnpricedError
	if !errors.As(err, &unpriced) || *unpriced != (UnpricedError{"c", 2}) {
		t.Errorf("%v", err)
	}
}

// A bill is exact, and rounds up once.
func TestBill(t *testing.T) {
	t.Parallel()
	budget := Budget{Cost: 1_000_001, Prices: Prices{"a": {1_000_000, 3_000_000}, "b": {333_333, 0}, "": {1_000_000, 3_000_000}}}
	l := budget.NewBill()
	l.Add("a", 500_000, 100_000)
	l.Add("other", 100_000, 33_333)
	if l.Tokens() != 733_333 || l.Cost() != 999_999 || l.Spent() {
		t.Errorf("%d tokens, %d, %t", l.Tokens(), l.Cost(), l.Spent())
	}
	l.Add("b", 3, 1000)
	l.Add("b", 1, 0)
	if l.Cost() != 1_000_001 || !l.Spent() {
		t.Errorf("%d, %t", l.Cost(), l.Spent())
	}
	l.Add("a", math.MaxInt64/2, math.MaxInt64/4)
	l.Add("a", 0, math.MaxInt64/4)
	if l.Cost() != math.MaxInt64 {
		t.Errorf("beyond measure it is %d", l.Cost())
	}
	for tokens, spent := range map[int64]bool{99: false, 100: true, 101: true} {
		l := Budget{Tokens: 100}.NewBill()
		if l.Add("a", tokens, 0); l.Spent() != spent || l.Cost() != 0 {
			t.Errorf("%d of 100 tokens: %t", tokens, l.Spent())
		}
	}
}
