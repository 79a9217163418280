package upstream

import (
	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// Target is where a model's calls go, with which key, and how.
type Target struct {
	BaseURL string
	APIKey  string
	// Options is how BaseURL wants to be spoken to; nil: as OpenAI's. They are not
	// changed once they are made.
	Options *endpoint.Options
	// Unusable says why no call can be made now without a key of the batch's own,
	// or, where BaseURL is empty, none at all; nothing secret is in it. Empty:
	// calls can be made.
	Unusable string
	// Unproven says why no batch's own key may be sent to BaseURL; empty: it may.
	Unproven string
}

// Model is what the endpoint calls a model.
func (t Target) Model(model batch.Model) batch.Model {
	if t.Options == nil || t.Options.Model == "" {
		return model
	}
	return batch.Model(t.Options.Model)
}
