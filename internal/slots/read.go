package slots

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

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
