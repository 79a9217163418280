package dispatch

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// sharded makes the streams of so many shards, and a dispatcher work with them.
func (c *cluster) sharded(n streams.Shards) func(*Config) {
	c.T.Helper()
	cfg := described
	cfg.Shards = n
	if err := streams.Ensure(c.T.Context(), c.JS, cfg); err != nil {
		c.T.Fatal(err)
	}
	return func(cfg *Config) {
		cfg.Streams.Shards = n
		cfg.Lease, cfg.ClaimInterval, cfg.ClaimTimeout, cfg.StaleThreshold = 10*time.Second, 100*time.Millisecond, 2*time.Second, time.Hour
	}
}

// far is a model that is not on the first of n shards.
func far(t *testing.T, n streams.Shards) batch.Model {
	t.Helper()
	for _, m := range []batch.Model{"a", "b", "c", "d", "e", "f", "g", "h"} {
		if n.Of(m) != 0 {
			return m
		}
	}
	t.Fatal("no model")
	return ""
}

// When the number of shards changes, up or down, what waits on the old stream is
// published on the new one and runs once, and the old one is empty.
func TestModelsMoveBetweenShards(t *testing.T) {
	t.Parallel()
	const n = 30
	for name, change := range map[string]struct{ from, to streams.Shards }{"more": {1, 8}, "fewer": {8, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			model := far(t, 8)
			_, stop := c.start(c.sharded(change.from))
			daemon := c.daemon()
			id := c.Begin(lines(n, model))
			old := c.shard(change.from, model)
			until(t, "its window is full", func() bool { return old.waiting(model) >= 4 })
			// One is called at the time, and one waits out a backoff.
			processing, waits := old.start(model, daemon), old.start(model, daemon)
			retry := postgres.Release{Delivery: waits, Retry: true, Delay: time.Millisecond}
			if _, err := c.Store.Finish(t.Context(), daemon, nil, []postgres.Release{retry}); err != nil {
				t.Fatal(err)
			}
			stop()
			c.start(c.sharded(change.to))
			until(t, "the old stream has nothing of it", func() bool { return old.waiting(model) == 0 && !old.has(model) })
			c.complete(daemon, processing)
			fresh := c.shard(change.to, model)
			for range n - 1 {
				c.complete(daemon, fresh.start(model, daemon))
			}
			until(t, "the batch has finished", func() bool { return c.get(id).Status.Terminal() })
			if b := c.get(id); b.Counts.Completed != n {
				t.Errorf("counts are %+v", b.Counts)
			}
		})
	}
}

// Streams that are too many once the number of shards is lowered are removed when
// they are empty, and none that holds a message.
func TestSurplusStreamsAreRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.sharded(4)
	if _, err := c.JS.Publish(t.Context(), streams.Shard(3).RequestSubject(testModel, batch.RequestID{Batch: batch.ID{1}, Line: 1}), nil); err != nil {
		t.Fatal(err)
	}
	fewer := c.sharded(2)
	c.start(fewer, func(cfg *Config) { cfg.Lease, cfg.ModelIdle = time.Second, 200*time.Millisecond })
	has := func(shard streams.Shard) bool {
		_, err := c.JS.Stream(t.Context(), shard.Stream())
		if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	until(t, "the stream of the third shard is gone", func() bool { return !has(2) })
	for _, shard := range []streams.Shard{0, 1, 3} {
		if !has(shard) {
			t.Errorf("stream %s is gone", shard.Stream())
		}
	}
	full, err := c.JS.Stream(t.Context(), streams.Shard(3).Stream())
	if err == nil {
		err = full.Purge(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the stream of the fourth is gone too", func() bool { return !has(3) })
}

// place is one shard of a cluster.
type place struct {
	*cluster
	shard streams.Shard
}

func (c *cluster) shard(n streams.Shards, m batch.Model) place { return place{c, n.Of(m)} }

// waiting is how many messages of the model are there.
func (p place) waiting(m batch.Model) int {
	p.T.Helper()
	stream, err := p.JS.Stream(p.T.Context(), p.shard.Stream())
	if err != nil {
		p.T.Fatal(err)
	}
	info, err := stream.Info(p.T.Context(), jetstream.WithSubjectFilter(p.shard.ModelSubjects(m)))
	if err != nil {
		p.T.Fatal(err)
	}
	return len(info.State.Subjects)
}

// has reports whether the model has a consumer there.
func (p place) has(m batch.Model) bool {
	_, err := p.JS.Consumer(p.T.Context(), p.shard.Stream(), streams.ConsumerName(m))
	return err == nil
}

// start takes messages of the model until one can be started.
func (p place) start(m batch.Model, daemon batch.DaemonID) (d postgres.Delivery) {
	p.T.Helper()
	rules := postgres.StartRules{Daemon: daemon, ProcessingTimeout: never, StaleThreshold: never}
	until(p.T, "a request is started", func() bool {
		consumer, err := p.JS.Consumer(p.T.Context(), p.shard.Stream(), streams.ConsumerName(m))
		if err != nil {
			return false
		}
		msg, err := consumer.Next(jetstream.FetchMaxWait(200 * time.Millisecond))
		if err != nil {
			return false
		}
		_, id, err := streams.ParseRequestSubject(msg.Subject())
		if err != nil {
			p.T.Fatal(err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			p.T.Fatal(err)
		}
		claim, err := strconv.Atoi(msg.Headers().Get(streams.HeaderClaim))
		if err != nil {
			p.T.Fatal(err)
		}
		d = postgres.Delivery{ID: id, Claim: claim, Number: int(meta.NumDelivered)}
		started, err := p.Store.Start(p.T.Context(), rules, []postgres.Delivery{d})
		if err != nil {
			p.T.Fatal(err)
		}
		if started[0].Verdict == postgres.Stale {
			_ = msg.DoubleAck(p.T.Context())
		}
		if err := p.Conn.Publish(streams.HintDrained(m), nil); err != nil {
			p.T.Fatal(err)
		}
		return started[0].Verdict == postgres.Started
	})
	return d
}

// complete stores a result, and fails the test if the request has another owner.
func (c *cluster) complete(daemon batch.DaemonID, d postgres.Delivery) {
	c.T.Helper()
	done := postgres.Completion{Delivery: d, State: batch.Completed, Attempts: 1, StatusCode: 200, Body: []byte("{}")}
	written, err := c.Store.Finish(c.T.Context(), daemon, []postgres.Completion{done}, nil)
	if err != nil || !written[d.ID] {
		c.T.Fatalf("%v was not completed: %v", d, err)
	}
}
