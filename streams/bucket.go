package streams

import (
	"context"
	"errors"
	"fmt"

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

// BucketInfo returns what the broker says of the stream that a bucket is kept in,
// its time among it.
func BucketInfo(ctx context.Context, kv jetstream.KeyValue) (*jetstream.StreamInfo, error) {
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, err
	}
	bucket, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return nil, fmt.Errorf("status of the bucket is a %T", status)
	}
	return bucket.StreamInfo(), nil
}

// LostRace reports whether a compare-and-set on a bucket found another revision.
func LostRace(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == wrongLastSequenceReplicated
}

// wrongLastSequenceReplicated is what a replicated stream answers to a
// compare-and-set that races with another one still in flight.
const wrongLastSequenceReplicated = 10164
