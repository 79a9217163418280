package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

// ModelUpstream is where operators have a model's calls go, and with which key.
type ModelUpstream struct {
	URL string // empty: as the environment says
	Key []byte // encrypted; nil: none
}

const (
	modelUpstreamsSQL = `
SELECT model, COALESCE(upstream_url, ''), upstream_key FROM models WHERE upstream_url IS NOT NULL OR upstream_key IS NOT NULL`
	setModelUpstreamSQL = `
INSERT INTO models (model, upstream_url, upstream_key) VALUES ($1, NULLIF($2, ''), $3)
    ON CONFLICT (model) DO UPDATE
   SET upstream_url = EXCLUDED.upstream_url, upstream_key = EXCLUDED.upstream_key, updated_at = now()`
)

// ModelUpstreams returns what operators have decided, by model.
func (s *Store) ModelUpstreams(ctx context.Context) (map[batch.Model]ModelUpstream, error) {
	all := make(map[batch.Model]ModelUpstream)
	var model string
	var u ModelUpstream
	err := s.forEach(ctx, modelUpstreamsSQL, nil, []any{&model, &u.URL, &u.Key}, func() {
		all[batch.Model(model)] = u
		u.Key = nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading models' upstreams: %w", err)
	}
	return all, nil
}

// SetModelUpstream sets URL and key together, since a key is encrypted for its
// URL. The zero value leaves both to the environment.
func (s *Store) SetModelUpstream(ctx context.Context, model batch.Model, u ModelUpstream) error {
	if _, err := s.exec(ctx, setModelUpstreamSQL, string(model), u.URL, u.Key); err != nil {
		return fmt.Errorf("setting the upstream of model %q: %w", model, err)
	}
	return nil
}
