package operator

import (
	"context"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/streams"
)

// ModelEndpoint says where a model's calls go from now on.
type ModelEndpoint struct {
	Default bool   // as the consumers' settings say, with the key that they say; excludes the others
	URL     string // empty: as it was
	Key     string // empty: as it was, unless the URL changes
}

// Check finds out whether the key can be stored.
func (e ModelEndpoint) Check(keys *seal.Keyring) error {
	if e.Key != "" && keys == nil {
		return &InputError{"FUSILLADE_ENCRYPTION_KEY is not set: an API key is stored only encrypted"}
	}
	return nil
}

// SetModelEndpoint changes where a model's calls go, and wakes the consumers.
// A key is kept only for the URL that it was encrypted for.
func SetModelEndpoint(ctx context.Context, s *postgres.Store, conn *nats.Conn, keys *seal.Keyring, model batch.Model, e ModelEndpoint) error {
	if err := e.Check(keys); err != nil {
		return err
	}
	to, err := stored(ctx, s, keys, model, e)
	if err != nil {
		return err
	}
	if err := s.SetModelUpstream(ctx, model, to); err != nil {
		return err
	}
	hint(conn, streams.HintUpstreams)
	return nil
}

// stored is what is to be stored of a change.
func stored(ctx context.Context, s *postgres.Store, keys *seal.Keyring, model batch.Model, e ModelEndpoint) (postgres.ModelUpstream, error) {
	if e.Default {
		return postgres.ModelUpstream{}, nil
	}
	all, err := s.ModelUpstreams(ctx)
	if err != nil {
		return postgres.ModelUpstream{}, err
	}
	to := all[model]
	if e.URL != "" && e.URL != to.URL {
		to = postgres.ModelUpstream{URL: e.URL}
	}
	// Without a key of its own the URL is sealed all the same: consumers send the
	// keys of batches to no URL that anybody may have put into the database.
	if e.Key != "" || to.URL != "" && to.Key == nil && keys != nil {
		to.Key, err = keys.Seal(seal.ModelKey(string(model), to.URL), e.Key)
	}
	return to, err
}
