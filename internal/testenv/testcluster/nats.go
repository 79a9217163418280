package testcluster

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/embedded"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// NATS is a broker of one test, and a connection to it.
type NATS struct {
	T      testing.TB
	Broker *embedded.NATS
	Conn   *nats.Conn
	JS     jetstream.JetStream
	Stream jetstream.Stream // of requests; nil until EnsureStreams
}

// NewNATS makes no stream.
func NewNATS(t testing.TB) *NATS {
	t.Helper()
	n := &NATS{T: t, Broker: testenv.NATS(t)}
	n.Conn = testenv.Connect(t, n.Broker)
	var err error
	if n.JS, err = jetstream.New(n.Conn, jetstream.WithDefaultTimeout(testenv.Patience)); err != nil {
		t.Fatal(err)
	}
	return n
}

// EnsureStreams makes the streams and buckets that are not there.
func (n *NATS) EnsureStreams(cfg streams.Config) {
	n.T.Helper()
	err := streams.Ensure(n.T.Context(), n.JS, cfg)
	if err != nil {
		n.T.Fatal(err)
	}
	if n.Stream, err = n.JS.Stream(n.T.Context(), streams.Stream); err != nil {
		n.T.Fatal(err)
	}
}

// Bucket returns a bucket that EnsureStreams has made.
func (n *NATS) Bucket(name string) jetstream.KeyValue {
	n.T.Helper()
	kv, err := n.JS.KeyValue(n.T.Context(), name)
	if err != nil {
		n.T.Fatal(err)
	}
	return kv
}

// Queued is how many messages the stream of requests holds.
func (n *NATS) Queued() uint64 {
	n.T.Helper()
	info, err := n.Stream.Info(n.T.Context())
	if err != nil {
		n.T.Fatal(err)
	}
	return info.State.Msgs
}

// Hint publishes a hint without a payload.
func (n *NATS) Hint(subject string) {
	n.T.Helper()
	if err := n.Conn.Publish(subject, nil); err != nil {
		n.T.Fatal(err)
	}
}
