package config

import (
	"encoding/json"
	"errors"
	"fmt"

	"fusillade/internal/batch"
)

// ModelPrices are prices by model, or by a pattern of models.
type ModelPrices batch.Prices

// String spells the prices as Set reads them.
func (p ModelPrices) String() string {
	for model := range p {
		if !isShort(model) {
			texts := make(map[batch.Model]string, len(p))
			for model, price := range p {
				texts[model] = price.String()
			}
			return long(texts)
		}
	}
	return short(p, batch.Price.String)
}

// Set reads gpt-4o=2.50/10,… or {"gpt-4o":"2.50/10"}. In the short spelling the
// price follows the last equals sign of its element.
func (p *ModelPrices) Set(text string) error {
	prices := ModelPrices{}
	read := func(name, value string) error {
		price, err := batch.ParsePrice(value)
		if err != nil {
			return fmt.Errorf("has an element whose price %w", err)
		}
		return insert(prices, name, price)
	}
	var err error
	if isJSON(text) {
		err = eachMember(text, func(name string, value json.RawMessage) error {
			var price string
			if json.Unmarshal(value, &price) != nil {
				return errors.New("has an element whose price is no string")
			}
			return read(name, price)
		})
	} else {
		err = eachPair(text, func(element string) (string, string, bool) { return cutLast(element, "=") },
			func(_ int, name, value string) error { return read(name, value) })
	}
	if err == nil {
		*p = prices
	}
	return err
}
