package slots

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// RestoredAfter is how long after the bucket was made anew every daemon that the
// broker can reach has noticed, and holds slots of it for its calls in flight.
// Only then may anyone be given more.
const RestoredAfter = pollInterval*5/4 + 500*time.Millisecond

// Age is how long ago the bucket was created, by the broker's clock.
func Age(ctx context.Context, kv jetstream.KeyValue) (time.Duration, error) {
	info, err := bucketInfo(ctx, kv)
	if err != nil {
		return 0, fmt.Errorf("reading the age of the bucket of slots: %w", err)
	}
	return info.TimeStamp.Sub(info.Created), nil
}

func bucketInfo(ctx context.Context, kv jetstream.KeyValue) (*jetstream.StreamInfo, error) {
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
