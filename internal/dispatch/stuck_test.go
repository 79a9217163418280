package dispatch

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/testenv"
	"fusillade/streams"
)

// glut fills a model's consumer with messages that are delivered and neither
// acked nor redelivered, as a consumer that is stuck has them, and leaves a
// pull waiting.
func (c *cluster) glut() {
	c.T.Helper()
	most := streams.MaxAckPending(4)
	c.Begin(lines(most+10, testModel))
	name := streams.ConsumerName(testModel)
	var consumer jetstream.Consumer
	until(c.T, "there is a consumer", func() bool {
		var err error
		consumer, err = c.Stream.Consumer(c.T.Context(), name)
		return err == nil
	})
	stuck := consumer.CachedInfo().Config
	stuck.AckWait = never
	consumer, err := c.Stream.UpdateConsumer(c.T.Context(), stuck)
	if err != nil {
		c.T.Fatal(err)
	}
	until(c.T, "as many are unacked as may be", func() bool {
		fetched, err := consumer.FetchNoWait(500)
		if err != nil {
			c.T.Fatal(err)
		}
		for range fetched.Messages() {
			continue
		}
		c.Hint(streams.HintDrained(testModel))
		info, err := consumer.Info(c.T.Context())
		if err != nil {
			c.T.Fatal(err)
		}
		return info.NumAckPending == most
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	waiting, err := consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Cleanup(func() {
		cancel()
		for range waiting.Messages() {
			continue
		}
	})
}

// onlooker is a dispatcher that does not run.
func (c *cluster) onlooker(lease time.Duration) *Dispatcher {
	c.T.Helper()
	d, err := New(c.T.Context(), Config{
		Store: c.Store, Conn: c.Conn, Streams: described, ClaimBatchSize: 1, ClaimInterval: never, DefaultLimit: 4,
		Lease: lease, ClaimTimeout: never, ProcessingTimeout: never, StaleThreshold: never, Log: testenv.Logger(c.T),
	})
	if err != nil {
		c.T.Fatal(err)
	}
	return d
}

func (c *cluster) created() time.Time {
	c.T.Helper()
	consumer, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(testModel))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return time.Time{}
	}
	if err != nil {
		c.T.Fatal(err)
	}
	return consumer.CachedInfo().Created
}

// A consumer that delivers nothing though it should is created anew, and
// delivers everything again.
func TestStuckConsumerIsCreatedAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	c.glut()
	before := c.created()
	d := c.onlooker(100 * time.Millisecond)
	leader := &term{Dispatcher: d, stood: make(map[string]progress)}
	until(t, "it is created anew", func() bool {
		if err := leader.recreateStuckConsumers(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.created().After(before)
	})
	first := c.take(testModel, 10)
	if len(first) != 10 {
		t.Errorf("%d messages are delivered again, want 10", len(first))
	}
}

// So is one that knows of no message while the stream has some, as a copy of its
// state may that is older, or newer, than the copy of the stream.
func TestOverlookingConsumerIsCreatedAnew(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	c.Begin(lines(4, testModel))
	c.queued(4)
	name := streams.ConsumerName(testModel)
	until(t, "there is a consumer", func() bool { return !c.created().IsZero() })
	consumer, err := c.Stream.Consumer(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	overlooks := consumer.CachedInfo().Config
	overlooks.FilterSubject = streams.Shard(0).ModelSubjects("none")
	if err := c.Stream.DeleteConsumer(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stream.CreateConsumer(t.Context(), overlooks); err != nil {
		t.Fatal(err)
	}
	before := c.created()
	leader := &term{Dispatcher: c.onlooker(100 * time.Millisecond), stood: make(map[string]progress)}
	until(t, "it is created anew", func() bool {
		if err := leader.recreateStuckConsumers(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c.created().After(before)
	})
	if n := len(c.take(testModel, 4)); n != 4 {
		t.Errorf("%d messages are delivered, want 4", n)
	}
}

// One that has delivered all there is stays.
func TestIdleConsumerIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	c.Begin(append(lines(3, testModel), lines(3, otherModel)...))
	c.queued(6)
	if n := len(c.take(testModel, 3)); n != 3 {
		t.Fatalf("%d messages are delivered, want 3", n)
	}
	// The messages of the other model are known to nobody, so all are asked about.
	if err := c.Stream.DeleteConsumer(t.Context(), streams.ConsumerName(otherModel)); err != nil {
		t.Fatal(err)
	}
	before := c.created()
	leader := &term{Dispatcher: c.onlooker(time.Nanosecond), stood: make(map[string]progress)}
	for range 5 {
		if err := leader.recreateStuckConsumers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !c.created().Equal(before) {
		t.Error("a consumer was created anew that has delivered all there is")
	}
}

// A model that is down has its messages in backoff or in flight, and its consumer
// is left alone; so is one that has not moved for less than two leases.
func TestBusyConsumerIsLeftAlone(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	c.glut()
	before := c.created()
	alive := c.daemon()
	c.Exec(`UPDATE requests SET state = 'processing', started_at = now(), delivery = 1, daemon_id = $1 WHERE line = 1`, [16]byte(alive))
	c.Exec(`UPDATE daemons SET last_heartbeat = now() + interval '1 h'`)
	d := c.onlooker(time.Nanosecond)
	leader := &term{Dispatcher: d, stood: make(map[string]progress)}
	for range 5 {
		if err := leader.recreateStuckConsumers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(leader.stood) != 1 || !c.created().Equal(before) {
		t.Errorf("a consumer was created anew while a request of its model is in flight; full consumers are %v", leader.stood)
	}
	leader.Dispatcher = c.onlooker(never)
	c.Exec(`UPDATE requests SET state = 'claimed', daemon_id = NULL, started_at = NULL WHERE line = 1`)
	for range 5 {
		if err := leader.recreateStuckConsumers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !c.created().Equal(before) {
		t.Error("a consumer was created anew before two leases had passed")
	}
}
