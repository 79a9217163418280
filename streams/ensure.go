package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/backoff"
)

// ErrReplicas is returned when copies are asked of a server that is in no cluster,
// and ErrTooFewServers when a cluster has fewer servers than copies are asked for,
// which may pass as others join.
var (
	ErrReplicas      = errors.New("the NATS server is alone and keeps no copies")
	ErrTooFewServers = errors.New("the NATS cluster has too few servers for the copies")
)

const (
	// ensuring is how many streams are made at once: each waits for an election
	// where there are replicas.
	ensuring = 4
	// ensureAgain is how long to wait before the next try while the cluster
	// elects a leader.
	ensureAgain = 100 * time.Millisecond
	// ensureTimeout is how long one try waits: a server without a leader does not
	// answer.
	ensureTimeout = 5 * time.Second
	// peersTimeout is how long servers of a cluster may take to be heard of.
	peersTimeout = 5 * time.Second
)

// Ensure creates the streams and the buckets, or brings them up to date, the
// number of their replicas too. While a cluster has no leader it tries again
// until ctx ends. It returns ErrReplicas and ErrTooFewServers.
func Ensure(ctx context.Context, js jetstream.JetStream, c Config) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(ensuring)
	for _, shard := range c.Shards.All() {
		g.Go(func() error {
			err := c.ensure(ctx, func(ctx context.Context) error {
				_, err := js.CreateOrUpdateStream(ctx, c.StreamConfig(shard))
				return err
			})
			if err != nil {
				return fmt.Errorf("creating stream %s: %w", shard.Stream(), err)
			}
			return nil
		})
	}
	for _, kv := range []jetstream.KeyValueConfig{c.DaemonsConfig(), c.SlotsConfig(), c.HoldsConfig(), c.RatesConfig()} {
		g.Go(func() error {
			err := c.ensure(ctx, func(ctx context.Context) error {
				_, err := js.CreateOrUpdateKeyValue(ctx, kv)
				return err
			})
			if err != nil {
				return fmt.Errorf("creating bucket %s: %w", kv.Bucket, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (c Config) ensure(ctx context.Context, do func(context.Context) error) error {
	began := time.Now()
	for pause := backoff.New(ensureAgain, 10*ensureAgain); ; {
		try, cancel := context.WithTimeout(ctx, ensureTimeout)
		err := do(try)
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &api) && api.ErrorCode == replicasNotSupported:
			return c.refused(ErrReplicas, api)
		case errors.As(err, &api) && api.ErrorCode == noSuitablePeers && time.Since(began) >= peersTimeout:
			return c.refused(ErrTooFewServers, api)
		case !passes(err):
			return err
		}
		if pause.Wait(ctx) != nil {
			return err // says more than that ctx has ended
		}
	}
}

func (c Config) refused(why error, api *jetstream.APIError) error {
	return fmt.Errorf("%w: FUSILLADE_STREAM_REPLICAS is %d, and it says %q; ask for fewer, or add servers with JetStream to the cluster",
		why, max(c.Replicas, 1), api.Description)
}

// passes reports whether an error goes by itself: two daemons made the same
// stream at one time, or the cluster elects a leader or has not heard of all of
// its servers yet.
func passes(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503 || api.ErrorCode == streamNameInUse || api.ErrorCode == noSuitablePeers
	}
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoStreamResponse)
}

// Codes of the server's API, from its errors.json.
const (
	noSuitablePeers      = 10005
	streamNameInUse      = 10058
	replicasNotSupported = 10074
)
