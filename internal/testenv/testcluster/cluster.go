// Package testcluster is what tests of daemons stand on: a migrated database, a
// broker, connections to both, and a look at every row when the test is done.
// Each package's tests add the daemons and the endpoint that they are about.
package testcluster

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/embedded"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// Two models, one of them with a name that is no token of NATS.
const (
	Model batch.Model = "meta-llama/Llama-3.1:8b instruct"
	Other batch.Model = "gpt-4.mini"
)

// Never is an interval, a timeout or a lease that does not end in a test.
const Never = time.Hour

// Cluster is a database and a broker of one test.
type Cluster struct {
	T           testing.TB
	DatabaseURL string
	Store       *postgres.Store
	DB          *pgxpool.Pool // to look at the tables themselves
	Broker      *embedded.NATS
	Conn        *nats.Conn
	JS          jetstream.JetStream
	Stream      jetstream.Stream // of requests; nil until EnsureStreams
}

// New starts no daemon and makes no stream. When the test is done, and the
// daemons that it started later have ended, the checker looks at every batch.
func New(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{T: t, DatabaseURL: testenv.DatabaseURL(t), Broker: testenv.NATS(t)}
	var err error
	if c.Store, err = postgres.Open(t.Context(), postgres.Config{URL: c.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Store.Close)
	if c.DB, err = pgxpool.New(t.Context(), c.DatabaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.DB.Close)
	c.Conn = testenv.Connect(t, c.Broker)
	if c.JS, err = jetstream.New(c.Conn); err != nil {
		t.Fatal(err)
	}
	checker.AtEnd(t, c.DB)
	return c
}

// EnsureStreams makes the streams and buckets that are not there.
func (c *Cluster) EnsureStreams(cfg streams.Config) {
	c.T.Helper()
	err := streams.Ensure(c.T.Context(), c.JS, cfg)
	if err != nil {
		c.T.Fatal(err)
	}
	if c.Stream, err = c.JS.Stream(c.T.Context(), streams.Stream); err != nil {
		c.T.Fatal(err)
	}
}

// Go runs something until the end of the test or until stop returns, which may
// be called again. Its error fails the test.
func (c *Cluster) Go(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		defer close(done)
		done <- run(ctx)
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.T.Error(err)
		}
	}
	c.T.Cleanup(stop)
	return stop
}

// Queued is how many messages the stream of requests holds.
func (c *Cluster) Queued() uint64 {
	c.T.Helper()
	info, err := c.Stream.Info(c.T.Context())
	if err != nil {
		c.T.Fatal(err)
	}
	return info.State.Msgs
}

// Hint publishes a hint without a payload.
func (c *Cluster) Hint(subject string) {
	c.T.Helper()
	if err := c.Conn.Publish(subject, nil); err != nil {
		c.T.Fatal(err)
	}
}

// Count reads one number from the tables.
func (c *Cluster) Count(sql string, args ...any) (n int64) {
	c.T.Helper()
	if err := c.DB.QueryRow(c.T.Context(), sql, args...).Scan(&n); err != nil {
		c.T.Fatal(err)
	}
	return n
}

// Exec changes the tables behind the store's back.
func (c *Cluster) Exec(sql string, args ...any) {
	c.T.Helper()
	if _, err := c.DB.Exec(c.T.Context(), sql, args...); err != nil {
		c.T.Fatal(err)
	}
}
