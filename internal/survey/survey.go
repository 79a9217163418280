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

// maxBodies bounds how many bodies are compared, at 8 bytes each.
const maxBodies = 1 << 20

// Counter adds up requests as a file is read: jsonl.Config.Survey. It holds some
// 10 MB at most. It is not safe for concurrent use.
type Counter struct {
	models    map[batch.Model]*batch.ModelSurvey
	last      *batch.ModelSurvey // of the latest request
	seed      maphash.Seed
	bodies    []uint64 // hashes
	maxBodies int
	full      bool             // a body was not compared
	answers   upstream.Answers // of the body being read
}

// NewCounter returns a Counter of no request.
func NewCounter() *Counter {
	return &Counter{
		models: make(map[batch.Model]*batch.ModelSurvey), seed: maphash.MakeSeed(), maxBodies: maxBodies,
	}
}

// Member reads a member of the next request's body.
func (c *Counter) Member(key, value []byte) { c.answers.Member(key, value) }

// Add counts a request whose members were read. It keeps nothing of its body.
func (c *Counter) Add(t batch.Template) {
	if c.last == nil || c.last.Model != t.Model {
		if c.last = c.models[t.Model]; c.last == nil {
			c.last = &batch.ModelSurvey{Model: t.Model}
			c.models[t.Model] = c.last
		}
	}
	c.count(c.last, t)
	if len(c.bodies) == c.maxBodies {
		c.full = true
		return
	}
	// Two bodies of a million with one hash of 64 bits are as good as impossible.
	c.bodies = append(c.bodies, maphash.Bytes(c.seed, t.Body))
}

// repeated is how many bodies are those of earlier requests. Sorting them at the end
// takes half the time and memory of a map.
func (c *Counter) repeated() (n int) {
	slices.Sort(c.bodies)
	for i := 1; i < len(c.bodies); i++ {
		if c.bodies[i] == c.bodies[i-1] {
			n++
		}
	}
	return n
}

func (c *Counter) count(m *batch.ModelSurvey, t batch.Template) {
	prompt, completion, bounded := c.answers.EstimateUse(t.Path, t.Body)
	c.answers = upstream.Answers{}
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

// Survey is what the requests so far ask for, without costs.
func (c *Counter) Survey() *batch.Survey {
	s := &batch.Survey{Repeated: c.repeated(), RepeatedAtLeast: c.full, Models: make([]batch.ModelSurvey, 0, len(c.models))}
	for _, m := range c.models {
		s.Models = append(s.Models, *m)
	}
	slices.SortFunc(s.Models, func(a, b batch.ModelSurvey) int { return cmp.Compare(a.Model, b.Model) })
	return s
}

// File is what a whole file asks for.
type File struct {
	Requests int    `json:"requests"`
	Bytes    int64  `json:"bytes"`
	Endpoint string `json:"endpoint,omitempty"` // of all requests; empty: they have several
	batch.Survey
}

// Read reads a file to its end; cfg's Survey is its own. It returns what the reader
// returns for a file that is not good, a *jsonl.InvalidFileError among them.
func Read(ctx context.Context, file io.Reader, cfg jsonl.Config, prices batch.Prices) (File, error) {
	cfg.Survey = NewCounter()
	r, err := jsonl.NewReader(file, cfg)
	if err != nil {
		return File{}, err
	}
	for err == nil {
		if _, err = r.Next(); err == nil {
			err = ctx.Err()
		}
	}
	if !errors.Is(err, io.EOF) {
		return File{}, err
	}
	s := r.Summary()
	return File{Requests: s.Requests, Bytes: s.Bytes, Endpoint: s.Endpoint, Survey: s.Survey.WithPrices(prices)}, nil
}
