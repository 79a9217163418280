package api

import "fusillade/internal/postgres"

// usageObject is OpenAI's, with the tokens of each model beside it.
type usageObject struct {
	tokens
	Models map[string]tokens `json:"models"`
}

type tokens struct {
	InputTokens        int64         `json:"input_tokens"`
	InputTokensDetails inputDetails  `json:"input_tokens_details"`
	OutputTokens       int64         `json:"output_tokens"`
	OutputDetails      outputDetails `json:"output_tokens_details"`
	TotalTokens        int64         `json:"total_tokens"`
}

type inputDetails struct {
	CachedTokens int64 `json:"cached_tokens"`
}

type outputDetails struct {
	ReasoningTokens int64 `json:"reasoning_tokens"`
}

func asUsage(models []postgres.ModelUsage) usageObject {
	out := usageObject{Models: make(map[string]tokens, len(models))}
	for _, m := range models {
		of := tokens{}
		of.add(m)
		out.add(m)
		out.Models[m.Model] = of
	}
	return out
}

func (t *tokens) add(m postgres.ModelUsage) {
	t.InputTokens += m.InputTokens
	t.OutputTokens += m.OutputTokens
	t.TotalTokens += m.InputTokens + m.OutputTokens
	t.InputTokensDetails.CachedTokens += m.CachedTokens
	t.OutputDetails.ReasoningTokens += m.ReasoningTokens
}
