package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

// ModelUpstream is where operators have a model's calls go, with which key, and how.
type ModelUpstream struct {
	URL     string // empty: as the environment says
	Key     []byte // encrypted; nil: none
	Options string // endpoint.Options.Encode; empty: none
	Headers []byte // the headers that Options names, encrypted; nil: none
}

const (
	modelUpstreamsSQL = `
SELECT model, COALESCE(upstream_url, ''), upstream_key, COALESCE(upstream_options, ''), upstream_headers FROM models
 WHERE upstream_url IS NOT NULL OR upstream_key IS NOT NULL OR upstream_options IS NOT NULL`
	setModelUpstreamSQL = `
INSERT INTO models AS m (model, upstream_url, upstream_key, upstream_options, upstream_headers) VALUES ($1, NULLIF($2, ''), $3, NULLIF($4, ''), $5)
    ON CONFLICT (model) DO UPDATE
   SET upstream_url = EXCLUDED.upstream_url, upstream_key = EXCLUDED.upstream_key,
       upstream_options = EXCLUDED.upstream_options, upstream_headers = EXCLUDED.upstream_headers, updated_at = now()`
	// What is encrypted differs each time, so it tells states apart that look alike.
	replaceModelUpstreamSQL = setModelUpstreamSQL + `
 WHERE m.upstream_url IS NOT DISTINCT FROM NULLIF($6, '') AND m.upstream_key IS NOT DISTINCT FROM $7
   AND m.upstream_options IS NOT DISTINCT FROM NULLIF($8, '') AND m.upstream_headers IS NOT DISTINCT FROM $9`
)

// ModelUpstreams returns what operators have decided, by model.
func (s *Store) ModelUpstreams(ctx context.Context) (map[batch.Model]ModelUpstream, error) {
	all := make(map[batch.Model]ModelUpstream)
	var model string
	var u ModelUpstream
	err := s.forEach(ctx, modelUpstreamsSQL, nil, []any{&model, &u.URL, &u.Key, &u.Options, &u.Headers}, func() {
		all[batch.Model(model)] = u
		u.Key, u.Headers = nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading models' upstreams: %w", err)
	}
	return all, nil
}

// SetModelUpstream sets all of it together, since what is encrypted is bound to
// URL and options. The zero value leaves everything to the environment.
func (s *Store) SetModelUpstream(ctx context.Context, model batch.Model, u ModelUpstream) error {
	if _, err := s.exec(ctx, setModelUpstreamSQL, string(model), u.URL, u.Key, u.Options, u.Headers); err != nil {
		return fmt.Errorf("setting the upstream of model %q: %w", model, err)
	}
	return nil
}

// ReplaceModelUpstream does the same if the model's upstream is still what the change
// was made from; else it changes nothing and returns false.
func (s *Store) ReplaceModelUpstream(ctx context.Context, model batch.Model, was, to ModelUpstream) (replaced bool, err error) {
	n, err := s.exec(ctx, replaceModelUpstreamSQL, string(model), to.URL, to.Key, to.Options, to.Headers, was.URL, was.Key, was.Options, was.Headers)
	if err != nil {
		return false, fmt.Errorf("replacing the upstream of model %q: %w", model, err)
	}
	return n > 0, nil
}
