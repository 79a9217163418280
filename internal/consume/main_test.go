package consume

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/daemon"
	"fusillade/internal/dispatch"
	"fusillade/internal/embedded"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

func TestMain(m *testing.M) {
	// These tests wait more than they compute, so more run at once than there
	// are processors. What is given on the command line wins.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	testenv.Main(m)
}

const (
	testModel  batch.Model = "meta-llama/Llama-3.1:8b instruct"
	otherModel batch.Model = "gpt-4.mini"
	// patience is how long a test waits for what must happen at last.
	patience = 60 * time.Second
	// never is a lease that does not run out in a test.
	never = time.Hour
)

var described = streams.Config{InMemory: true, StaleDaemonThreshold: 10 * time.Second}

// until waits for a condition, which it asks again and again.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	testenv.Until(t, patience, what, holds)
}

// cluster is a database, a broker and an endpoint, and the daemons that a test
// runs on them.
type cluster struct {
	t        testing.TB
	store    *postgres.Store
	db       *pgxpool.Pool // to look at the tables themselves
	broker   *embedded.NATS
	conn     *nats.Conn
	js       jetstream.JetStream
	stream   jetstream.Stream
	endpoint *endpoint
	url      string
}

// newCluster starts a dispatcher and no consumer. At the end of the test the
// checker looks at every batch.
func newCluster(t testing.TB, settings ...func(*dispatch.Config)) *cluster {
	t.Helper()
	c := newBareCluster(t)
	cfg := dispatch.Config{
		Store: c.store, Conn: testenv.Connect(t, c.broker), Streams: described, ClaimBatchSize: 100, ClaimInterval: 200 * time.Millisecond,
		DefaultLimit: 4, Lease: never, ClaimTimeout: time.Minute, ProcessingTimeout: time.Minute, StaleThreshold: 10 * time.Second,
		MetadataFields: []string{"id", "endpoint", "created_at", "completion_window", "team"}, Log: testenv.Logger(t),
	}
	for _, set := range settings {
		set(&cfg)
	}
	d, err := dispatch.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.background(d.Run)
	return c
}

// newBareCluster starts neither.
func newBareCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, broker: testenv.NATS(t), endpoint: &endpoint{}}
	url := testenv.DatabaseURL(t)
	var err error
	if c.store, err = postgres.Open(t.Context(), postgres.Config{URL: url}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.store.Close)
	if c.db, err = pgxpool.New(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.db.Close)
	c.conn = testenv.Connect(t, c.broker)
	if c.js, err = jetstream.New(c.conn); err != nil {
		t.Fatal(err)
	}
	if err := streams.Ensure(t.Context(), c.js, described); err != nil {
		t.Fatal(err)
	}
	if c.stream, err = c.js.Stream(t.Context(), streams.Stream); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.endpoint)
	t.Cleanup(server.Close)
	c.url = server.URL
	t.Cleanup(c.check)
	return c
}

// background runs something until the end of the test, and fails the test with
// its error.
func (c *cluster) background(run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	c.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	})
}

func (c *cluster) check() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := checker.CheckAll(ctx, c.db); err != nil {
		c.t.Error(err)
	}
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

// errAway is what a store says that cannot be reached.
var errAway = errors.New("the database is away")

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
	c.t.Helper()
	return c.startTuned(func(*Consumer) {}, settings...)
}

// startTuned is start with a hand on the consumer before it runs.
func (c *cluster) startTuned(tune func(*Consumer), settings ...func(*Config)) *running {
	c.t.Helper()
	client, err := upstream.New(upstream.Config{Timeout: time.Minute})
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := Config{
		Store: c.store, Caller: client, Conn: testenv.Connect(c.t, c.broker),
		Upstream: func(batch.Model) (upstream.Target, bool) {
			return upstream.Target{BaseURL: c.url, APIKey: "sk-test"}, true
		},
		Retry: batch.RetryPolicy{Backoff: 10 * time.Millisecond, Factor: 2, MaxBackoff: 50 * time.Millisecond},
		Lease: never, ProcessingTimeout: time.Minute, StaleThreshold: 10 * time.Second, HeartbeatInterval: 500 * time.Millisecond,
		DrainTimeout: patience, MaxInFlight: 100, MaxTakeovers: 5, Log: testenv.Logger(c.t),
	}
	for _, set := range settings {
		set(&cfg)
	}
	r := &running{t: c.t, done: make(chan struct{})}
	began := make(chan struct{})
	var begin sync.Once
	doing, doNone := context.WithCancel(context.Background())
	taking, takeNone := context.WithCancel(doing)
	r.takeNone, r.doNone = takeNone, doNone
	life := daemon.Config{
		Store: c.store, Conn: cfg.Conn, Role: "consumer", Interval: cfg.HeartbeatInterval, Threshold: cfg.StaleThreshold, Log: cfg.Log,
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
	c.t.Cleanup(func() {
		r.doNone()
		<-r.done
		if r.err != nil {
			c.t.Error(r.err)
		}
	})
	<-began
	if r.Consumer == nil {
		<-r.done
		c.t.Fatal(r.err)
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

// line is a request of a test's file.
func line(customID string, model batch.Model) batch.Template {
	return batch.Template{
		CustomID: customID, Model: model, Method: "POST", Path: "/v1/chat/completions",
		Body: fmt.Appendf(nil, `{"model": %q,  "prompt":"%s"}`, model, customID),
	}
}

func lines(n int, models ...batch.Model) []batch.Template {
	out := make([]batch.Template, n)
	for i := range out {
		out[i] = line(fmt.Sprintf("r%d", i), models[i%len(models)])
	}
	return out
}

// begin stores the lines as a file and begins a batch of it.
func (c *cluster) begin(lines []batch.Template, settings ...func(*postgres.NewBatch)) batch.ID {
	c.t.Helper()
	ctx := c.t.Context()
	n := postgres.NewBatch{CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: "tester"}
	for _, set := range settings {
		set(&n)
	}
	file, err := c.store.CreateFile(ctx, "requests.jsonl", n.CreatedBy)
	if err != nil {
		c.t.Fatal(err)
	}
	summary := batch.FileSummary{Requests: len(lines), Endpoint: "/v1/chat/completions"}
	hash, demand := sha256.New(), make(map[batch.Model]batch.ModelDemand)
	for i := range lines {
		lines[i].Line = int32(i + 1)
		hash.Write(lines[i].Body)
		m := demand[lines[i].Model]
		demand[lines[i].Model] = batch.ModelDemand{Model: lines[i].Model, Requests: m.Requests + 1, Bytes: m.Bytes + int64(len(lines[i].Body))}
	}
	for _, m := range demand {
		summary.Models = append(summary.Models, m)
		summary.Bytes += m.Bytes
	}
	summary.SHA256 = [32]byte(hash.Sum(nil))
	if err := c.store.CopyTemplates(ctx, file, lines); err != nil {
		c.t.Fatal(err)
	}
	if err := c.store.FinishFile(ctx, file, summary); err != nil {
		c.t.Fatal(err)
	}
	n.File = file
	id, _, err := c.store.CreateBatch(ctx, n)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Publish(streams.HintWork, nil); err != nil {
		c.t.Fatal(err)
	}
	return id
}

// awaitEnd returns the results of a batch by custom id, once it has ended.
func (c *cluster) awaitEnd(id batch.ID) map[string]batch.Result {
	c.t.Helper()
	until(c.t, "the batch has ended", func() bool { return c.batch(id).Status.Terminal() })
	results := make(map[string]batch.Result)
	for {
		page, err := c.store.Results(c.t.Context(), id, int64(len(results)), 1000)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, r := range page {
			results[r.CustomID] = r
		}
		if len(page) == 0 {
			return results
		}
	}
}

func (c *cluster) batch(id batch.ID) postgres.Batch {
	c.t.Helper()
	b, err := c.store.GetBatch(c.t.Context(), id, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// queued is how many messages the stream holds.
func (c *cluster) queued() uint64 {
	c.t.Helper()
	info, err := c.stream.Info(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return info.State.Msgs
}

// count reads one number from the tables.
func (c *cluster) count(sql string, args ...any) (n int64) {
	c.t.Helper()
	if err := c.db.QueryRow(c.t.Context(), sql, args...).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *cluster) exec(sql string, args ...any) {
	c.t.Helper()
	if _, err := c.db.Exec(c.t.Context(), sql, args...); err != nil {
		c.t.Fatal(err)
	}
}

func limits(of map[batch.Model]int) func(*dispatch.Config) {
	return func(cfg *dispatch.Config) { cfg.Limits = of }
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
