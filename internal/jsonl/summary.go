package jsonl

import (
	"cmp"
	"slices"

	"fusillade/internal/batch"
)

// counts gathers the requests of each model.
type counts struct {
	requests int
	models   map[batch.Model]*batch.ModelDemand
}

// add counts a request, and returns the model in a string that all its
// requests share. It returns false when the model would be one too many.
func (c *counts) add(name []byte, bodyBytes, maxModels int) (batch.Model, bool) {
	model, found := c.models[batch.Model(name)]
	if !found {
		if len(c.models) == maxModels {
			return "", false
		}
		model = &batch.ModelDemand{Model: batch.Model(name)}
		c.models[model.Model] = model
	}
	c.requests++
	model.Requests++
	model.Bytes += int64(bodyBytes)
	return model.Model, true
}

// known reports whether an earlier request has the model.
func (c *counts) known(name []byte) bool { return c.models[batch.Model(name)] != nil }

func (c *counts) sorted() batch.FileSummary {
	summary := batch.FileSummary{Requests: c.requests, Models: make([]batch.ModelDemand, 0, len(c.models))}
	for _, model := range c.models {
		summary.Models = append(summary.Models, *model)
	}
	slices.SortFunc(summary.Models, func(a, b batch.ModelDemand) int { return cmp.Compare(a.Model, b.Model) })
	return summary
}
