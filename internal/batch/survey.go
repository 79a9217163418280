package batch

// Survey is what a file's requests ask for. Tokens are estimated, as for rate limits.
type Survey struct {
	// Repeated are requests with the same body as an earlier one.
	Repeated int `json:"repeated_bodies"`
	// RepeatedAtLeast: the file has more requests than are compared, so there may be
	// more of them.
	RepeatedAtLeast bool          `json:"repeated_bodies_at_least,omitempty"`
	Models          []ModelSurvey `json:"models"` // by name
}

// ModelSurvey is what a file asks one model for.
type ModelSurvey struct {
	Model        Model `json:"model"`
	Requests     int   `json:"requests"`
	PromptTokens int64 `json:"prompt_tokens"`
	// CompletionTokens are the most that the requests allow. Unbounded ones, which
	// set no max_tokens or the like, count as 512 tokens each.
	CompletionTokens int64 `json:"max_completion_tokens"`
	Unbounded        int   `json:"unbounded_requests"`
	LongestPrompt    int64 `json:"longest_prompt_tokens"`
	LongestLine      int32 `json:"longest_prompt_line"`
	// Cost is what these tokens cost; nil: the model has no price. It is never stored.
	Cost *Money `json:"cost_millionths,omitempty"`
}

// WithPrices fills in what the tokens of each model cost.
func (s Survey) WithPrices(prices Prices) Survey {
	models := make([]ModelSurvey, len(s.Models))
	for i, m := range s.Models {
		m.Cost = nil
		if price, ok := prices.Of(m.Model); ok {
			cost := price.Cost(m.PromptTokens, m.CompletionTokens)
			m.Cost = &cost
		}
		models[i] = m
	}
	s.Models = models
	return s
}

// SurveyTotal is a Survey's models added up.
type SurveyTotal struct {
	Requests, Unbounded            int
	PromptTokens, CompletionTokens int64
	Cost                           Money // of the models that have a price
	Unpriced                       int   // models without one
}

// Priced reports whether any model has a price.
func (s Survey) Priced() bool { return s.Total().Unpriced < len(s.Models) }

// Total adds up the models.
func (s Survey) Total() (t SurveyTotal) {
	for _, m := range s.Models {
		t.Requests += m.Requests
		t.Unbounded += m.Unbounded
		t.PromptTokens += m.PromptTokens
		t.CompletionTokens += m.CompletionTokens
		if m.Cost == nil {
			t.Unpriced++
		} else {
			t.Cost += *m.Cost
		}
	}
	return t
}
