package dispatch

import (
	"context"
	"errors"
	"flag"
	"fmt"
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

func TestMain(m *testing.M) {
	// These tests wait more than they compute, so more run at once than there
	// are processors. What is given on the command line wins.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	testenv.Main(m)
}

const (
	testModel  batch.Model = "meta-llama/Llama-3.1:8b instruct"
	otherModel batch.Model = "gpt-4.mini"
	// patience is how long a test waits for what must happen at last.
	patience = 60 * time.Second
	// never is an interval that does not end in a test.
	never = time.Hour
)

var described = streams.Config{InMemory: true, StaleDaemonThreshold: 10 * time.Second}

// until waits for a condition, which it asks again and again.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	testenv.Until(t, patience, what, holds)
}

// cluster is a database and a broker; the test itself is the consumer.
type cluster struct {
	t      *testing.T
	store  *postgres.Store
	db     *pgxpool.Pool // to look at the tables themselves
	broker *embedded.NATS
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
}

// newCluster starts nothing. At the end of the test the checker looks at every
// batch.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, broker: testenv.NATS(t)}
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
	c.ensureStreams()
	checker.AtEnd(t, c.db)
	return c
}

func (c *cluster) ensureStreams() {
	c.t.Helper()
	err := streams.Ensure(c.t.Context(), c.js, described)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.stream, err = c.js.Stream(c.t.Context(), streams.Stream); err != nil {
		c.t.Fatal(err)
	}
}

// start runs a dispatcher until the end of the test, or until stop returns.
// No poll and no timeout ends in a test, unless it says so.
func (c *cluster) start(settings ...func(*Config)) (d *Dispatcher, stop func()) {
	c.t.Helper()
	cfg := Config{
		Store: c.store, Conn: testenv.Connect(c.t, c.broker), Streams: described, ClaimBatchSize: 100, ClaimInterval: never, DefaultLimit: 4,
		Lease: never, ClaimTimeout: never, ProcessingTimeout: never, StaleThreshold: never, Log: testenv.Logger(c.t),
	}
	for _, set := range settings {
		set(&cfg)
	}
	d, err := New(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- d.Run(ctx)
		close(done)
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}
	c.t.Cleanup(stop)
	return d, stop
}

func lines(n int, models ...batch.Model) []batch.Template {
	out := make([]batch.Template, n)
	for i := range out {
		out[i] = batch.Template{
			Line: int32(i + 1), CustomID: fmt.Sprintf("r%d", i), Model: models[i%len(models)], Method: "POST",
			Path: "/v1/chat/completions", Body: fmt.Appendf(nil, `{"prompt":"secret %d"}`, i),
		}
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
	demand := make(map[batch.Model]int)
	for _, l := range lines {
		demand[l.Model]++
	}
	for m, n := range demand {
		summary.Models = append(summary.Models, batch.ModelDemand{Model: m, Requests: n})
	}
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
	c.hint(streams.HintWork)
	return id
}

func (c *cluster) hint(subject string) {
	c.t.Helper()
	if err := c.conn.Publish(subject, nil); err != nil {
		c.t.Fatal(err)
	}
}

// state is how the stream stands; the zero value if there is none.
func (c *cluster) state() jetstream.StreamState {
	c.t.Helper()
	info, err := c.stream.Info(c.t.Context())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return jetstream.StreamState{}
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return info.State
}

// queued returns once that many messages are in the stream, and fails the test
// if there are ever more.
func (c *cluster) queued(n int) {
	c.t.Helper()
	until(c.t, fmt.Sprintf("%d messages are queued", n), func() bool {
		if got := c.state().Msgs; got > uint64(n) {
			c.t.Fatalf("%d messages are queued, want %d", got, n)
		} else {
			return got == uint64(n)
		}
		return false
	})
}

// take takes and acks up to n messages of a model and tells the dispatchers,
// as a consumer does. before is called with each before it is acked.
func (c *cluster) take(m batch.Model, n int, before ...func(jetstream.Msg)) []jetstream.Msg {
	c.t.Helper()
	consumer, err := c.stream.Consumer(c.t.Context(), streams.ConsumerName(m))
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	fetched, err := consumer.FetchNoWait(n)
	if err != nil {
		c.t.Fatal(err)
	}
	var taken []jetstream.Msg
	for msg := range fetched.Messages() {
		for _, f := range before {
			f(msg)
		}
		if err := msg.DoubleAck(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		taken = append(taken, msg)
	}
	if len(taken) > 0 {
		c.hint(streams.HintDrained(m))
	}
	return taken
}

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
