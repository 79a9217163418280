package client

import (
	"fmt"
	"strings"
)

// Survey is what the requests of an input file ask for. Tokens are estimated: one for
// four bytes.
type Survey struct {
	Requests     int   `json:"requests"`
	PromptTokens int64 `json:"prompt_tokens"`
	// CompletionTokens are the most that the requests allow. Those that set no
	// max_tokens or the like, the unbounded ones, count as 512 tokens each.
	CompletionTokens int64 `json:"max_completion_tokens"`
	Unbounded        int   `json:"unbounded_requests"`
	// Repeated are requests with the same body as an earlier one; with RepeatedAtLeast,
	// there may be more of them.
	Repeated        int           `json:"repeated_bodies"`
	RepeatedAtLeast bool          `json:"repeated_bodies_at_least"`
	Cost            string        `json:"cost"`   // at most, of the models that have a price; empty: none has
	Models          []ModelSurvey `json:"models"` // by name
}

// ModelSurvey is what a file asks one model for.
type ModelSurvey struct {
	Model            string `json:"model"`
	Requests         int    `json:"requests"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"max_completion_tokens"`
	Unbounded        int    `json:"unbounded_requests"`
	LongestPrompt    int64  `json:"longest_prompt_tokens"`
	LongestLine      int    `json:"longest_prompt_line"` // that has it
	Cost             string `json:"cost"`                // at most; empty: the model has no price
}

// String says it in one line; empty: there is no survey.
func (s *Survey) String() string {
	if s == nil {
		return ""
	}
	parts := []string{
		fmt.Sprintf("%s of %s", counted(s.Requests, "request"), counted(len(s.Models), "model")),
		fmt.Sprintf("about %d prompt tokens and at most %d for answers", s.PromptTokens, s.CompletionTokens),
	}
	if s.Repeated > 0 || s.RepeatedAtLeast {
		text := counted(s.Repeated, "repeated body", "repeated bodies")
		if s.RepeatedAtLeast {
			text = "at least " + text
		}
		parts = append(parts, text)
	}
	if s.Cost != "" {
		text := "cost at most " + s.Cost
		unpriced := 0
		for _, m := range s.Models {
			if m.Cost == "" {
				unpriced++
			}
		}
		if unpriced > 0 {
			text += " without " + counted(unpriced, "model that has", "models that have") + " no price"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// counted is a number with its noun, whose plural has an s unless it is given.
func counted(n int, noun string, plural ...string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case len(plural) > 0:
		return fmt.Sprintf("%d %s", n, plural[0])
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
