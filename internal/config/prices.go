package config

import (
	"fmt"

	"fusillade/internal/batch"
)

// ModelPrices are prices by model, or by a pattern of models.
type ModelPrices batch.Prices

// String spells the prices as Set reads them.
func (p ModelPrices) String() string { return spell(p, batch.Price.String) }

// Set reads gpt-4o=2.50/10,… or {"gpt-4o":"2.50/10"}. In the short spelling the
// price follows the last equals sign of its element.
func (p *ModelPrices) Set(text string) error {
	prices := ModelPrices{}
	err := eachText(text, "price", func(name, value string) error {
		price, err := batch.ParsePrice(value)
		if err != nil {
			return fmt.Errorf("has an element whose price %w", err)
		}
		return insert(prices, name, price)
	})
	if err == nil {
		*p = prices
	}
	return err
}
