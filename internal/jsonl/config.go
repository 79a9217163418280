package jsonl

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"fusillade/internal/batch"
)

// Limits bound what a file may hold. Zero fields take their defaults.
type Limits struct {
	MaxRequests     int   // requests in a file; default 1,000,000
	MaxRequestBytes int   // bytes of one line without its line end; default 10 MiB
	MaxFileBytes    int64 // bytes of the file; default 2 GiB
	MaxModels       int   // distinct models in a file; default 1,000
}

const (
	maxCustomIDBytes = 512
	maxModelBytes    = 256
)

// DefaultEndpoints are those of OpenAI's batches that answer at once with JSON,
// Anthropic's messages, and those that vLLM serves besides.
var DefaultEndpoints = []string{
	"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations",
	"/v1/images/generations", "/v1/images/edits", "/v1/messages",
	"/v1/rerank", "/rerank", "/v2/rerank", "/v1/score", "/score", "/classify", "/pooling",
}

// Config says what a Reader accepts. The zero value is usable.
type Config struct {
	Limits
	// Endpoint is the url that every line must have. Empty: the lines need only
	// agree with one another.
	Endpoint string
	// Endpoints are the urls that a line may have. Empty: DefaultEndpoints.
	Endpoints []string
	// Models are patterns of the models that a line may name: * stands for any
	// characters, also none, and ? for one. Empty: any model.
	Models []string
	// MaxListed bounds the bad lines that are listed; default 100.
	MaxListed int
	// AllowMixedEndpoints lets lines of one file have different urls, as long as
	// Endpoint is empty.
	AllowMixedEndpoints bool
	// Survey, if set, counts what the requests ask for; Summary has the result.
	Survey surveyor
}

// surveyor adds up requests: a survey.Counter.
type surveyor interface {
	// Member is called for each member of a request's body, before Add: its key as
	// written, without quotes, and its value as written.
	Member(key, value []byte)
	// Add counts a request. It must not keep the body. It is not called after the
	// first bad line, while Member is.
	Add(batch.Template)
	Survey() *batch.Survey
}

// withDefaults returns c completed, or an error that joins one line per bad
// field.
func (c Config) withDefaults() (Config, error) {
	var problems []error
	for _, limit := range []struct {
		name  string
		value int64
	}{
		{"MaxRequests", int64(c.MaxRequests)},
		{"MaxRequestBytes", int64(c.MaxRequestBytes)},
		{"MaxFileBytes", c.MaxFileBytes},
		{"MaxModels", int64(c.MaxModels)},
		{"MaxListed", int64(c.MaxListed)},
	} {
		if limit.value < 0 {
			problems = append(problems, fmt.Errorf("%s is %d: must not be negative", limit.name, limit.value))
		}
	}
	c.MaxRequests = cmp.Or(c.MaxRequests, 1_000_000)
	c.MaxRequestBytes = cmp.Or(c.MaxRequestBytes, 10<<20)
	c.MaxFileBytes = cmp.Or(c.MaxFileBytes, 2<<30)
	c.MaxModels = cmp.Or(c.MaxModels, 1_000)
	c.MaxListed = cmp.Or(c.MaxListed, defaultListed)

	c.Endpoints = slices.Clone(c.Endpoints)
	if len(c.Endpoints) == 0 {
		c.Endpoints = slices.Clone(DefaultEndpoints)
	}
	for _, endpoint := range c.Endpoints {
		if !strings.HasPrefix(endpoint, "/") {
			problems = append(problems, fmt.Errorf("Endpoints holds %q: must start with a slash", endpoint))
		}
	}
	if c.Endpoint != "" && !slices.Contains(c.Endpoints, c.Endpoint) {
		problems = append(problems, fmt.Errorf("Endpoint is %q: must be one of %s", c.Endpoint, strings.Join(c.Endpoints, ", ")))
	}
	return c, errors.Join(problems...)
}
