package app

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/embedded"
	"fusillade/internal/jsonl"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
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

// patience is how long a test waits for what must happen at last.
const patience = 60 * time.Second

// until waits for a condition, which it asks again and again.
func until(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	testenv.Until(t, patience, what, holds)
}

// cluster is a database, a broker and an endpoint, and the daemons that a test
// runs on them.
type cluster struct {
	t           *testing.T
	databaseURL string
	store       *postgres.Store
	db          *pgxpool.Pool // to look at the tables themselves
	broker      *embedded.NATS
	conn        *nats.Conn
	endpoint    *mock.Server
	settings    config.Standalone
}

// newCluster starts no daemon. At the end of the test the checker looks at
// every batch.
func newCluster(t *testing.T, answers mock.Settings) *cluster {
	t.Helper()
	c := &cluster{t: t, databaseURL: testenv.DatabaseURL(t), broker: testenv.NATS(t)}
	var err error
	if c.endpoint, err = mock.New(mock.Config{Settings: answers, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.endpoint)
	t.Cleanup(server.Close)
	if c.store, err = postgres.Open(t.Context(), postgres.Config{URL: c.databaseURL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.store.Close)
	if c.db, err = pgxpool.New(t.Context(), c.databaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.db.Close)
	c.conn = testenv.Connect(t, c.broker)
	checker.AtEnd(t, c.db)
	c.settings = defaults(t)
	c.settings.Backoff, c.settings.MaxBackoff = ms(20), ms(200)
	c.set(&c.settings.Postgres.URL, c.databaseURL)
	c.set(&c.settings.NATS.URL, c.broker.URL())
	c.set(&c.settings.Upstream.URL, server.URL)
	return c
}

// defaults are the settings of an empty environment.
func defaults(t *testing.T) config.Standalone {
	t.Helper()
	var s config.Standalone
	if err := config.Load(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

func ms(n int) config.Milliseconds { return config.Milliseconds(time.Duration(n) * time.Millisecond) }

func (c *cluster) set(setting interface{ Set(string) error }, value string) {
	c.t.Helper()
	if err := setting.Set(value); err != nil {
		c.t.Fatal(err)
	}
}

// running is one daemon.
type running struct {
	stop     context.CancelFunc // as the first signal
	admin    string             // where it serves health and metrics; empty: nowhere
	observed *Telemetry
	done     chan error
	consumer chan *consume.Consumer
}

// start runs a daemon until the end of the test: a dispatcher, a consumer, or
// both in one.
func (c *cluster) start(role string, changes ...func(*config.Standalone)) *running {
	c.t.Helper()
	s := c.settings
	for _, change := range changes {
		change(&s)
	}
	resources, err := Connect(c.t.Context(), role, s.Postgres, s.NATS, s.Daemon, testenv.Logger(c.t))
	if err != nil {
		c.t.Fatal(err)
	}
	var taking context.Context
	r := &running{done: make(chan error, 1), consumer: make(chan *consume.Consumer, 10)}
	taking, r.stop = context.WithCancel(context.Background())
	stopAdmin, err := resources.ServeAdmin(taking, string(s.Admin.Addr), true)
	if err != nil {
		c.t.Fatal(err)
	}
	r.admin, r.observed = resources.AdminAddr, resources.Telemetry
	consuming := ConsumerOptions{
		Daemon: s.Daemon, Work: s.Work, Upstream: s.Upstream, Encryption: s.Encryption, Webhooks: s.Webhooks, Shutdown: s.Shutdown,
		Observe: func(c *consume.Consumer) { r.consumer <- c },
	}
	go func() {
		defer close(r.done)
		defer resources.Close()
		defer stopAdmin()
		switch role {
		case "dispatcher":
			r.done <- Dispatch(taking, context.Background(), resources, DispatcherOptions{Daemon: s.Daemon, Encryption: s.Encryption, Webhooks: s.Webhooks}, nil)
		case "consumer":
			r.done <- Consume(taking, context.Background(), resources, consuming, nil)
		default:
			r.done <- Standalone(taking, context.Background(), resources, consuming, nil)
		}
	}()
	c.t.Cleanup(func() {
		r.stop()
		if err := <-r.done; err != nil {
			c.t.Errorf("%s: %v", role, err)
		}
	})
	return r
}

// begin stores n requests, whose models take turns and whose custom ids begin
// with the prefix, and begins a batch of them.
func (c *cluster) begin(prefix string, n int, models ...string) batch.ID {
	c.t.Helper()
	return c.beginAs("tester", prefix, n, models...)
}

// beginAs is begin for an owner.
func (c *cluster) beginAs(owner, prefix string, n int, models ...string) batch.ID {
	c.t.Helper()
	var file bytes.Buffer
	for i := range n {
		line, err := json.Marshal(map[string]any{
			"custom_id": fmt.Sprintf("%s-%d", prefix, i), "method": "POST", "url": "/v1/chat/completions",
			"body": map[string]any{"model": models[i%len(models)], "messages": []string{}},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		file.Write(append(line, '\n'))
	}
	reader, err := jsonl.NewReader(&file, jsonl.Config{})
	if err != nil {
		c.t.Fatal(err)
	}
	id, _, err := jsonl.Load(c.t.Context(), c.store, reader, "requests.jsonl", owner, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	created, _, err := c.store.CreateBatch(c.t.Context(), postgres.NewBatch{
		File: id, CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: owner,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Publish(streams.HintWork, nil); err != nil {
		c.t.Fatal(err)
	}
	return created
}

func (c *cluster) batch(id batch.ID) postgres.Batch {
	c.t.Helper()
	b, err := c.store.GetBatch(c.t.Context(), id, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// awaitEnd waits until the batch has ended, and wants every request completed.
func (c *cluster) awaitEnd(id batch.ID, patience time.Duration) {
	c.t.Helper()
	ended := false
	defer func() {
		if !ended {
			c.explain(id)
		}
	}()
	until(c.t, patience, "the batch has ended", func() bool {
		ended = c.batch(id).Status.Terminal()
		return ended
	})
	if b := c.batch(id); b.Counts.Completed != b.Counts.Total {
		c.t.Errorf("counts are %+v, want all completed", b.Counts)
	}
}

// awaitDone waits until that many requests of the batch have ended.
func (c *cluster) awaitDone(id batch.ID, n int64) {
	c.t.Helper()
	until(c.t, patience, fmt.Sprintf("%d requests have ended", n), func() bool { return c.batch(id).Counts.Done() >= n })
}

// calledAtMost fails the test if a request was called more often.
func (c *cluster) calledAtMost(most int64) {
	c.t.Helper()
	for customID, calls := range c.endpoint.CustomIDs() {
		if calls > most {
			c.t.Errorf("%s was called %d times, want at most %d", customID, calls, most)
		}
	}
}

// explain says what is left of a batch that does not end.
func (c *cluster) explain(id batch.ID) {
	c.t.Helper()
	c.t.Logf("counts are %+v", c.batch(id).Counts)
	rows, err := c.db.Query(c.t.Context(), `
		SELECT format('%s %s: %s, attempt %s, claim %s, delivery %s, started %s ago, not before %s from now, due %s from now', routed_model, line, state,
		       attempt, claim, delivery, now() - started_at, not_before - now(), due_at - now())
		  FROM requests ORDER BY 1 LIMIT 40`)
	if err != nil {
		c.t.Fatal(err)
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("live requests:\n%s", strings.Join(left, "\n"))
	js, err := jetstream.New(c.conn)
	if err != nil {
		c.t.Fatal(err)
	}
	consumers, err := js.Stream(c.t.Context(), streams.Stream)
	if err != nil {
		c.t.Fatal(err)
	}
	for info := range consumers.ListConsumers(c.t.Context()).Info() {
		if info.NumPending > 0 || info.NumAckPending > 0 {
			c.t.Logf("consumer %s: %d pending, %d unacked, %d redelivered, %d pulls wait", info.Name, info.NumPending, info.NumAckPending, info.NumRedelivered, info.NumWaiting)
		}
	}
	kv, err := js.KeyValue(c.t.Context(), streams.SlotsBucket)
	if err != nil {
		c.t.Fatal(err)
	}
	entries, err := slots.List(c.t.Context(), kv)
	if err != nil {
		c.t.Fatal(err)
	}
	for model, e := range entries {
		if len(e.Holders) > 0 {
			c.t.Logf("slots of %s: %+v", model, e)
		}
	}
}
