package streams

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
)

// Names of the stream and the buckets.
const (
	Stream        = "REQUESTS" // of shard 0; see Shards
	DaemonsBucket = "DAEMONS"  // key: daemon id; gone when its heartbeats stop
	SlotsBucket   = "SLOTS"    // key: model token; who may run how many calls
	HoldsBucket   = "HOLDS"    // key: hash of a credential; until when it makes no call
	RatesBucket   = "RATES"    // key: model token, or hash of a credential; what the last minute has used of its limit
)

// Config is what a deployment decides about its stream and buckets.
type Config struct {
	// Replicas of the stream and the buckets: 1, or 3 or 5 in a cluster.
	Replicas int
	// PlacementTags are those that a server must have to hold a copy; empty: any
	// server may.
	PlacementTags []string
	// Shards is how many streams share the models' messages.
	Shards Shards
	// InMemory keeps all of it in the server's memory: for a server that lives
	// and dies with the one process that uses it.
	InMemory bool
	// StaleDaemonThreshold is how long a heartbeat is good for.
	StaleDaemonThreshold time.Duration
}

// StreamConfig describes one shard of the work queue. It keeps one message per subject and
// refuses a second, so that a request can be published again at any time and
// is still queued once.
func (c Config) StreamConfig(shard Shard) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                 shard.Stream(),
		Description:          "claimed requests, one message each",
		Subjects:             []string{shard.prefix() + ">"},
		Retention:            jetstream.WorkQueuePolicy,
		Storage:              c.storage(),
		Discard:              jetstream.DiscardNew,
		MaxMsgsPerSubject:    1,
		MaxConsumers:         maxConsumers,
		DiscardNewPerSubject: true,
		// What a message is looked up for is decided by its answer, so the leader of the
		// stream gives it: a replica may know less, and after a store has gone back
		// replicas may differ.
		AllowDirect: false,
		Replicas:    max(c.Replicas, 1),
		Placement:   c.placement(),
		// Postgres rebuilds whatever the broker loses, so nothing here waits
		// for a disk.
		Duplicates: time.Second,
	}
}

func (c Config) storage() jetstream.StorageType {
	if c.InMemory {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

func (c Config) placement() *jetstream.Placement {
	if len(c.PlacementTags) == 0 {
		return nil
	}
	return &jetstream.Placement{Tags: c.PlacementTags}
}

// DaemonsConfig describes the bucket of heartbeats. A key vanishes when no
// heartbeat renewed it for the stale-daemon threshold, and watchers hear of it.
func (c Config) DaemonsConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      DaemonsBucket,
		Description: "heartbeats, one key per running daemon",
		TTL:         c.StaleDaemonThreshold,
		// The marker of an expired key lives as long as a key does.
		LimitMarkerTTL: max(c.StaleDaemonThreshold, time.Second),
		Storage:        c.storage(),
		Replicas:       max(c.Replicas, 1),
		Placement:      c.placement(),
		History:        1,
	}
}

// SlotsConfig describes the bucket of slots.
func (c Config) SlotsConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      SlotsBucket,
		Description: "concurrent calls each model allows, and which daemon holds how many",
		Storage:     c.storage(),
		Replicas:    max(c.Replicas, 1),
		Placement:   c.placement(),
		History:     1,
	}
}

// HoldsConfig describes the bucket of holds. An entry vanishes some time after
// the longest hold there may be.
func (c Config) HoldsConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      HoldsBucket,
		Description: "credentials whose endpoint asked for a pause",
		TTL:         holdsTTL,
		Storage:     c.storage(),
		Replicas:    max(c.Replicas, 1),
		Placement:   c.placement(),
		History:     1,
	}
}

// holdsTTL is above the longest hold that can be set, of a day.
const holdsTTL = 25 * time.Hour

// RatesConfig describes the bucket of rates. An entry vanishes when it says
// nothing any more: no window reaches what is in it.
func (c Config) RatesConfig() jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{
		Bucket:      RatesBucket,
		Description: "what the last minute has used of the rate limits, and what is leased of them",
		TTL:         ratesTTL,
		Storage:     c.storage(),
		Replicas:    max(c.Replicas, 1),
		Placement:   c.placement(),
		History:     1,
	}
}

// ratesTTL is far above the minute that a limit is for.
const ratesTTL = 15 * time.Minute

// StreamNames are the names of the shards and of the streams behind the buckets.
func (c Config) StreamNames() []string {
	names := []string{"KV_" + DaemonsBucket, "KV_" + SlotsBucket, "KV_" + HoldsBucket, "KV_" + RatesBucket}
	for _, shard := range c.Shards.All() {
		names = append(names, shard.Stream())
	}
	return names
}

// maxConsumers bounds the models with work at one time: the server's default of
// 1,000 for streams that name none is refused to each model beyond it, for ever.
const maxConsumers = 100_000

// maxWaiting is the number of open pulls a consumer accepts. It cannot be
// changed once the consumer exists.
const maxWaiting = 8192

// ConsumerConfig describes the consumer that feeds one model.
//
// lease is AckWait: how long a message stays with a consumer that says
// nothing. limit is the model's concurrency limit; MaxAckPending is only the
// outer guard around it, wide enough for prefetched messages and for those
// that wait out a backoff, which keep their place in it.
func (s Shard) ConsumerConfig(m batch.Model, limit int, lease time.Duration) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       ConsumerName(m),
		Description:   string(m),
		FilterSubject: s.ModelSubjects(m),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       lease,
		MaxAckPending: MaxAckPending(limit),
		// A message that reached MaxDeliver would stay in the stream for ever;
		// the attempts are counted in Postgres.
		MaxDeliver: -1,
		MaxWaiting: maxWaiting,
		// The broker writes the state of a consumer with work to a file of its own, up
		// to ten times a second, and with a thousand of them does little else. Postgres
		// knows what was started, so the state may be lost: deliveries are then counted
		// anew, and the dispatchers create the consumers that a single server has
		// lost when it restarts.
		MemoryStorage: true,
		Metadata:      map[string]string{"model": string(m)},
	}
}

// EnsureConsumer creates a model's consumer, or brings it up to date. One of an
// earlier release keeps its state in a file, which cannot be changed: it does so
// until its model is retired.
func EnsureConsumer(ctx context.Context, stream jetstream.Stream, c jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	consumer, err := stream.CreateOrUpdateConsumer(ctx, c)
	if !errors.Is(err, jetstream.ErrConsumerCreate) {
		return consumer, err
	}
	found, findErr := stream.Consumer(ctx, c.Durable)
	if findErr != nil || found.CachedInfo().Config.MemoryStorage == c.MemoryStorage {
		return nil, err
	}
	c.MemoryStorage = !c.MemoryStorage
	return stream.CreateOrUpdateConsumer(ctx, c)
}

// ConsumerModel is the model that a consumer of this description feeds.
func ConsumerModel(c jetstream.ConsumerConfig) batch.Model { return batch.Model(c.Metadata["model"]) }

// MaxAckPending is the outer guard for a model of the given limit.
func MaxAckPending(limit int) int { return 4*limit + 1024 }
