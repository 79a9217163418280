package slots

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// Limit is a model's limit as it is now; 0: it has no entry.
func Limit(ctx context.Context, kv jetstream.KeyValue, model batch.Model) (int, error) {
	found, err := kv.Get(ctx, streams.Token(model))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the limit of model %q: %w", model, err)
	}
	e, err := decode(found.Value())
	return e.Limit, err
}

// List returns all entries, by model.
func List(ctx context.Context, kv jetstream.KeyValue) (map[batch.Model]Entry, error) {
	found, err := streams.ReadBucket(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("listing slots: %w", err)
	}
	entries := make(map[batch.Model]Entry, len(found))
	for _, f := range found {
		e, err := decode(f.Value())
		if err != nil {
			return nil, err
		}
		entries[e.Model] = e
	}
	return entries, nil
}
