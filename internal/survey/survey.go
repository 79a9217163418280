// Package survey says what a file of requests asks for before any of them is
// called: how many, of which models, how long, and what they may cost.
package survey

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"io"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/upstream"
)

// File is what a file asks for. Tokens are estimated, as for rate limits.
type File struct {
	Requests int    `json:"requests"`
	Bytes    int64  `json:"bytes"`
	Endpoint string `json:"endpoint,omitempty"` // of all requests; empty: they have several
	// Repeated are requests with the same body as an earlier one.
	Repeated int     `json:"repeated_bodies"`
	Models   []Model `json:"models"` // by name
}

// Model is what a file asks one model for.
type Model struct {
	Model        batch.Model `json:"model"`
	Requests     int         `json:"requests"`
	PromptTokens int64       `json:"prompt_tokens"`
	// CompletionTokens are the most that the requests allow. Unbounded ones, which
	// set no max_tokens or the like, count as 512 tokens each.
	CompletionTokens int64 `json:"max_completion_tokens"`
	Unbounded        int   `json:"unbounded_requests"`
	LongestPrompt    int64 `json:"longest_prompt_tokens"`
	LongestLine      int32 `json:"longest_prompt_line"`
	// Cost is what these tokens cost; nil: the model has no price.
	Cost *batch.Money `json:"cost_millionths,omitempty"`
}

// Read reads a file to its end. It returns what the reader returns for a file
// that is not good, a *jsonl.InvalidFileError among them.
func Read(ctx context.Context, r *jsonl.Reader, prices batch.Prices) (File, error) {
	models := make(map[batch.Model]*Model)
	seed := maphash.MakeSeed()
	bodies := make(map[uint64]struct{})
	var f File
	for {
		template, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return File{}, err
		}
		m := models[template.Model]
		if m == nil {
			m = &Model{Model: template.Model}
			models[template.Model] = m
		}
		m.add(template)
		// Two bodies of a million with one hash of 64 bits are as good as impossible.
		sum := maphash.Bytes(seed, template.Body)
		if _, found := bodies[sum]; found {
			f.Repeated++
		}
		bodies[sum] = struct{}{}
	}
	summary := r.Summary()
	f.Requests, f.Bytes, f.Endpoint = summary.Requests, summary.Bytes, summary.Endpoint
	for _, m := range models {
		if price, ok := prices.Of(m.Model); ok {
			cost := price.Cost(m.PromptTokens, m.CompletionTokens)
			m.Cost = &cost
		}
		f.Models = append(f.Models, *m)
	}
	slices.SortFunc(f.Models, func(a, b Model) int { return cmp.Compare(a.Model, b.Model) })
	return f, nil
}

func (m *Model) add(t batch.Template) {
	prompt, completion, bounded := upstream.EstimateUse(t.Path, t.Body)
	m.Requests++
	m.PromptTokens += prompt
	m.CompletionTokens += completion
	if !bounded {
		m.Unbounded++
	}
	if prompt > m.LongestPrompt {
		m.LongestPrompt, m.LongestLine = prompt, t.Line
	}
}
