package slots

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
)

// readAll returns the bucket's entries as they are, with one request: a watch
// that ends with what there is. A Get for each key would cost a round trip for
// each model.
func readAll(ctx context.Context, kv jetstream.KeyValue) (entries []jetstream.KeyValueEntry, err error) {
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("the watch ended")
			}
			if entry == nil { // the end of what there is
				return entries, nil
			}
			entries = append(entries, entry)
		}
	}
}

// List returns all entries, by model.
func List(ctx context.Context, kv jetstream.KeyValue) (map[batch.Model]Entry, error) {
	found, err := readAll(ctx, kv)
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
