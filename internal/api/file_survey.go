package api

import (
	"context"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/internal/survey"
)

// surveyObject is what a file's requests ask for. Tokens are estimated.
type surveyObject struct {
	Requests         int                 `json:"requests"`
	PromptTokens     int64               `json:"prompt_tokens"`
	CompletionTokens int64               `json:"max_completion_tokens"`
	Unbounded        int                 `json:"unbounded_requests"`
	Repeated         int                 `json:"repeated_bodies"`
	RepeatedAtLeast  bool                `json:"repeated_bodies_at_least"`
	Cost             *string             `json:"cost"` // of the models that have a price; null: none has
	Models           []surveyModelObject `json:"models"`
}

type surveyModelObject struct {
	Model            batch.Model `json:"model"`
	Requests         int         `json:"requests"`
	PromptTokens     int64       `json:"prompt_tokens"`
	CompletionTokens int64       `json:"max_completion_tokens"`
	Unbounded        int         `json:"unbounded_requests"`
	LongestPrompt    int64       `json:"longest_prompt_tokens"`
	LongestLine      int32       `json:"longest_prompt_line"`
	Cost             *string     `json:"cost"`
}

// fileReader reads a file's requests and surveys them.
func (s *Server) fileReader() jsonl.Config {
	return jsonl.Config{Limits: s.cfg.Limits, Models: s.cfg.AllowedModels, Endpoints: s.cfg.AllowedEndpoints, Survey: survey.NewCounter()}
}

// surveyed is an input file with its survey. Costs are by today's prices.
func (s *Server) surveyed(ctx context.Context, f postgres.File) (fileObject, error) {
	out := inputFile(f)
	surveys, err := s.cfg.Store.FileSurveys(ctx, f.ID)
	if err != nil {
		return fileObject{}, err
	}
	if of, there := surveys[f.ID]; there {
		out.Survey = surveyOf(of.WithPrices(s.cfg.Prices))
	}
	return out, nil
}

func surveyOf(s batch.Survey) *surveyObject {
	total := s.Total()
	out := &surveyObject{
		Requests: total.Requests, PromptTokens: total.PromptTokens, CompletionTokens: total.CompletionTokens, Unbounded: total.Unbounded,
		Repeated: s.Repeated, RepeatedAtLeast: s.RepeatedAtLeast, Models: make([]surveyModelObject, len(s.Models)),
	}
	if s.Priced() {
		out.Cost = costText(&total.Cost)
	}
	for i, m := range s.Models {
		out.Models[i] = surveyModelObject{
			Model: m.Model, Requests: m.Requests, PromptTokens: m.PromptTokens, CompletionTokens: m.CompletionTokens, Unbounded: m.Unbounded,
			LongestPrompt: m.LongestPrompt, LongestLine: m.LongestLine, Cost: costText(m.Cost),
		}
	}
	return out
}

// costText is nil where there is no cost.
func costText(cost *batch.Money) *string {
	if cost == nil {
		return nil
	}
	text := cost.String()
	return &text
}
