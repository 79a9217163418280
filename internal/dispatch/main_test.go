package dispatch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	testModel  = testcluster.Model
	otherModel = testcluster.Other
	patience   = testenv.Patience
	never      = testcluster.Never
)

var (
	until = testenv.Eventually
	lines = testcluster.Lines
)

var described = streams.Config{InMemory: true, StaleDaemonThreshold: 10 * time.Second}

// cluster has no consumer: that is the test itself.
type cluster struct{ *testcluster.Cluster }

// newCluster starts nothing.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{testcluster.New(t)}
	c.ensureStreams()
	return c
}

func (c *cluster) ensureStreams() {
	c.T.Helper()
	c.EnsureStreams(described)
}

// start runs a dispatcher until the end of the test, or until stop returns.
// No poll and no timeout ends in a test, unless it says so.
func (c *cluster) start(settings ...func(*Config)) (d *Dispatcher, stop func()) {
	c.T.Helper()
	cfg := Config{
		Store: c.Store, Conn: testenv.Connect(c.T, c.Broker), Streams: described, ClaimBatchSize: 100, ClaimInterval: never, DefaultLimit: 4,
		Lease: never, ClaimTimeout: never, ProcessingTimeout: never, StaleThreshold: never, Log: testenv.Logger(c.T),
	}
	for _, set := range settings {
		set(&cfg)
	}
	d, err := New(c.T.Context(), cfg)
	if err != nil {
		c.T.Fatal(err)
	}
	return d, c.Go(d.Run)
}

// state is how the stream stands; the zero value if there is none.
func (c *cluster) state() jetstream.StreamState {
	c.T.Helper()
	info, err := c.Stream.Info(c.T.Context())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return jetstream.StreamState{}
	}
	if err != nil {
		c.T.Fatal(err)
	}
	return info.State
}

// queued returns once that many messages are in the stream, and fails the test
// if there are ever more.
func (c *cluster) queued(n int) {
	c.T.Helper()
	until(c.T, fmt.Sprintf("%d messages are queued", n), func() bool {
		if got := c.state().Msgs; got > uint64(n) {
			c.T.Fatalf("%d messages are queued, want %d", got, n)
		} else {
			return got == uint64(n)
		}
		return false
	})
}

// fetch returns up to n messages of a model, none if it has no consumer.
func (c *cluster) fetch(m batch.Model, n int) (msgs []jetstream.Msg) {
	c.T.Helper()
	consumer, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(m))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil
	}
	if err != nil {
		c.T.Fatal(err)
	}
	fetched, err := consumer.FetchNoWait(n)
	if err != nil {
		c.T.Fatal(err)
	}
	for msg := range fetched.Messages() {
		msgs = append(msgs, msg)
	}
	return msgs
}

const ackPatience = 5 * time.Second

// take takes and acks up to n messages of a model and tells the dispatchers,
// as a consumer does. before is called with each before it is acked.
func (c *cluster) take(m batch.Model, n int, before ...func(jetstream.Msg)) []jetstream.Msg {
	c.T.Helper()
	consumer, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(m))
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		c.T.Fatal(err)
	}
	fetched, err := consumer.FetchNoWait(n)
	if err != nil {
		c.T.Fatal(err)
	}
	var taken []jetstream.Msg
	for msg := range fetched.Messages() {
		for _, f := range before {
			f(msg)
		}
		// The leader may remove the consumer of a model whose last request has been
		// finished before its message is acked. Then nobody confirms the ack.
		ctx, cancel := context.WithTimeout(c.T.Context(), ackPatience)
		err := msg.DoubleAck(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrNoResponders) {
			c.T.Fatal(err)
		}
		taken = append(taken, msg)
	}
	if len(taken) > 0 {
		c.Hint(streams.HintDrained(m))
	}
	return taken
}
