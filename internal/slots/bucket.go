package slots

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/streams"
)

// RestoredAfter is how long after the bucket was made anew every daemon that the
// broker can reach has noticed, and holds slots of it for its calls in flight.
// Only then may anyone be given more.
const RestoredAfter = pollInterval*5/4 + 500*time.Millisecond

// Age is how long ago the bucket was created, by the broker's clock.
func Age(ctx context.Context, kv jetstream.KeyValue) (time.Duration, error) {
	info, err := streams.BucketInfo(ctx, kv)
	if err != nil {
		return 0, fmt.Errorf("reading the age of the bucket of slots: %w", err)
	}
	return info.TimeStamp.Sub(info.Created), nil
}
