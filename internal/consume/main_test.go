package consume

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/daemon"
	"fusillade/internal/dispatch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	testModel  = testcluster.Model
	otherModel = testcluster.Other
	patience   = testenv.Patience
	never      = testcluster.Never
	// lease ends while a test waits, and is renewed long before by who lives: a
	// message that is on its way while its pull ends is lost until then.
	lease = 30 * time.Second
)

var (
	line  = testcluster.Line
	lines = testcluster.Lines
)

var described = streams.Config{InMemory: true, StaleDaemonThreshold: 10 * time.Second}

var until = testenv.Eventually

// cluster has an endpoint, and the daemons that a test runs.
type cluster struct {
	*testcluster.Cluster
	endpoint *endpoint
	url      string
}

// newCluster starts a dispatcher and no consumer.
func newCluster(t testing.TB, settings ...func(*dispatch.Config)) *cluster {
	t.Helper()
	c := newBareCluster(t)
	c.startDispatcher(t, settings...)
	return c
}

func (c *cluster) startDispatcher(t testing.TB, settings ...func(*dispatch.Config)) {
	t.Helper()
	cfg := dispatch.Config{
		Store: c.Store, Conn: testenv.Connect(t, c.Broker), Streams: described, ClaimBatchSize: 100, ClaimInterval: 200 * time.Millisecond,
		DefaultLimit: 4, Lease: lease, ClaimTimeout: time.Minute, ProcessingTimeout: time.Minute, StaleThreshold: 10 * time.Second,
		MetadataFields: []string{"id", "endpoint", "created_at", "completion_window", "team"}, Log: testenv.Logger(t),
	}
	for _, set := range settings {
		set(&cfg)
	}
	d, err := dispatch.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Go(d.Run)
}

// newBareCluster starts neither.
func newBareCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{Cluster: testcluster.New(t), endpoint: &endpoint{}}
	c.EnsureStreams(described)
	server := httptest.NewServer(c.endpoint)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// running is a consumer in a daemon of its own.
type running struct {
	*Consumer
	t        testing.TB
	takeNone context.CancelFunc // as the first signal
	doNone   context.CancelFunc // as the second
	done     chan struct{}
	err      error
}

// errAway is what a store returns that cannot be reached.
var errAway error = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("the database is away")}

// fault is how a call to the store fails.
type fault int

const (
	none    fault = iota
	refused       // nothing was done
	unknown       // it was done, and the answer was lost
)

// faultyStore fails as the functions say, which are given the number of the
// call, from 0.
type faultyStore struct {
	store
	start, finish    func(n int64) fault
	starts, finishes atomic.Int64
}

func (s *faultyStore) Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error) {
	return faulty(s.start, &s.starts, func() ([]postgres.Start, error) { return s.store.Start(ctx, rules, deliveries) })
}

func (s *faultyStore) Finish(ctx context.Context, d batch.DaemonID, endings []postgres.Completion, returns []postgres.Release) (map[batch.RequestID]bool, error) {
	return faulty(s.finish, &s.finishes, func() (map[batch.RequestID]bool, error) { return s.store.Finish(ctx, d, endings, returns) })
}

func faulty[T any](faults func(n int64) fault, calls *atomic.Int64, call func() (T, error)) (result T, err error) {
	f := none
	if n := calls.Add(1) - 1; faults != nil {
		f = faults(n)
	}
	if f == refused {
		return result, errAway
	}
	if result, err = call(); err == nil && f == unknown {
		var lost T
		return lost, errAway
	}
	return result, err
}

// start runs a consumer until the end of the test.
func (c *cluster) start(settings ...func(*Config)) *running {
	c.T.Helper()
	return c.startTuned(func(*Consumer) {}, settings...)
}

// startTuned is start with a hand on the consumer before it runs.
func (c *cluster) startTuned(tune func(*Consumer), settings ...func(*Config)) *running {
	c.T.Helper()
	client, err := upstream.New(upstream.Config{Timeout: time.Minute})
	if err != nil {
		c.T.Fatal(err)
	}
	cfg := Config{
		Store: c.Store, Caller: client, Conn: testenv.Connect(c.T, c.Broker),
		Resolve: func(batch.Model) (upstream.Target, bool) {
			return upstream.Target{BaseURL: c.url, APIKey: "sk-test"}, true
		},
		Retry: batch.RetryPolicy{Backoff: 10 * time.Millisecond, Factor: 2, MaxBackoff: 50 * time.Millisecond},
		Lease: lease, ProcessingTimeout: time.Minute, StaleThreshold: 10 * time.Second, HeartbeatInterval: 2 * time.Second,
		DrainTimeout: patience, MaxInFlight: 100, MaxTakeovers: 5, Log: testenv.Logger(c.T),
	}
	for _, set := range settings {
		set(&cfg)
	}
	r := &running{t: c.T, done: make(chan struct{})}
	began := make(chan struct{})
	var begin sync.Once
	doing, doNone := context.WithCancel(context.Background())
	taking, takeNone := context.WithCancel(doing)
	r.takeNone, r.doNone = takeNone, doNone
	life := daemon.Config{
		Store: c.Store, Conn: cfg.Conn, Role: "consumer", Interval: cfg.HeartbeatInterval, Threshold: cfg.StaleThreshold, Log: cfg.Log,
	}
	go func() {
		defer close(r.done)
		defer begin.Do(func() { close(began) })
		defer client.Close()
		r.err = daemon.Run(taking, doing, life, func(taking, doing context.Context, d *daemon.Daemon) error {
			cfg.Daemon = d.ID
			consumer, err := New(taking, cfg)
			if err != nil {
				return err
			}
			tune(consumer)
			begin.Do(func() { r.Consumer = consumer; close(began) })
			return consumer.Run(taking, doing)
		})
	}()
	c.T.Cleanup(func() {
		r.doNone()
		<-r.done
		if r.err != nil {
			c.T.Error(r.err)
		}
	})
	<-began
	if r.Consumer == nil {
		<-r.done
		c.T.Fatal(r.err)
	}
	return r
}

// wait returns when the consumer has ended by itself.
func (r *running) wait() {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("the consumer does not end")
	}
	if r.err != nil {
		r.t.Fatal(r.err)
	}
}

func limits(of map[batch.Model]batch.Limit) func(*dispatch.Config) {
	return func(cfg *dispatch.Config) { cfg.Limits = of }
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
