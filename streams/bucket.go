package streams

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// ReadBucket returns a bucket's entries as they are, with one request: a watch
// that ends with what there is. A Get for each key would cost a round trip each.
func ReadBucket(ctx context.Context, kv jetstream.KeyValue) (entries []jetstream.KeyValueEntry, err error) {
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
