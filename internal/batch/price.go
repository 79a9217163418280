package batch

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Money is an amount in millionths of whatever currency the operator's prices are in.
type Money int64

// moneyUnit is one unit of the currency.
const moneyUnit Money = 1_000_000

// String spells an amount with two decimal places, or as many as show it.
func (m Money) String() string {
	sign := ""
	if m < 0 {
		sign, m = "-", -m
	}
	digits := fmt.Sprintf("%06d", m%moneyUnit)
	for len(digits) > 2 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	return fmt.Sprintf("%s%d.%s", sign, m/moneyUnit, digits)
}

// ErrMoney is returned for what is no amount of money.
var ErrMoney = errors.New("is not an amount such as 2.50, with at most six decimal places")

// maxMoney keeps sums of a million batches from overflowing.
const maxMoney = 1_000_000

// ParseMoney reads a decimal amount from 0 to 1,000,000. It returns ErrMoney.
func ParseMoney(text string) (Money, error) {
	whole, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > 6 || strings.Trim(whole+fraction, "0123456789") != "" || whole == "" || strings.HasSuffix(text, ".") {
		return 0, ErrMoney
	}
	units, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || units > maxMoney {
		return 0, ErrMoney
	}
	millionths, err := strconv.ParseInt((fraction + "000000")[:6], 10, 64)
	if err != nil {
		return 0, ErrMoney
	}
	return Money(units)*moneyUnit + Money(millionths), nil
}

// Price is what a model's tokens cost: each for a million of them.
type Price struct{ Prompt, Completion Money }

// ErrPrice is returned for what is no price.
var ErrPrice = errors.New("is not a price such as 2.50/10: of a million prompt tokens, and of a million completion tokens")

// ParsePrice reads 2.50/10, or 0.02 for models that generate nothing. It returns
// ErrPrice.
func ParsePrice(text string) (p Price, err error) {
	prompt, completion, two := strings.Cut(text, "/")
	if p.Prompt, err = ParseMoney(prompt); err == nil && two {
		p.Completion, err = ParseMoney(completion)
	}
	if err != nil {
		return Price{}, ErrPrice
	}
	return p, nil
}

// String spells the price as ParsePrice reads it.
func (p Price) String() string {
	if p.Completion == 0 {
		return p.Prompt.String()
	}
	return p.Prompt.String() + "/" + p.Completion.String()
}

// Cost is what so many tokens cost, rounded up to a millionth.
func (p Price) Cost(promptTokens, completionTokens int64) Money {
	sum := new(big.Int).Mul(big.NewInt(int64(p.Prompt)), big.NewInt(promptTokens))
	sum.Add(sum, new(big.Int).Mul(big.NewInt(int64(p.Completion)), big.NewInt(completionTokens)))
	const tokens = 1_000_000
	return Money(sum.Add(sum, big.NewInt(tokens-1)).Quo(sum, big.NewInt(tokens)).Int64())
}

// Prices are those of models: by name, or by a pattern in which * stands for any
// characters and ? for one.
type Prices map[Model]Price

// Of returns a model's price: that of its own name, else that of the longest
// pattern which matches it.
func (p Prices) Of(model Model) (Price, bool) {
	if price, ok := p[model]; ok {
		return price, true
	}
	best, found := Model(""), false
	for pattern := range p {
		if !MatchModel(string(pattern), string(model)) {
			continue
		}
		longer := cmp.Or(cmp.Compare(len(pattern), len(best)), cmp.Compare(pattern, best)) > 0
		if !found || longer {
			best, found = pattern, true
		}
	}
	return p[best], found
}
