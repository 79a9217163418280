package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/jsonl"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/internal/tracing"
	"fusillade/streams"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// cluster has an endpoint, and the daemons that a test runs.
type cluster struct {
	*testcluster.Cluster
	endpoint *mock.Server
	settings config.Standalone
	tracer   *tracing.Tracer // of its daemons; nil: they make no spans
	pause    atomic.Int64    // nanoseconds: how late a goroutine ran at most
}

// newCluster starts no daemon.
func newCluster(t *testing.T, answers mock.Settings) *cluster {
	t.Helper()
	c := &cluster{Cluster: testcluster.New(t)}
	var err error
	if c.endpoint, err = mock.New(mock.Config{Settings: answers, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(c.endpoint)
	t.Cleanup(server.Close)
	c.settings = defaults(t)
	c.settings.Backoff, c.settings.MaxBackoff = ms(20), ms(200)
	c.set(&c.settings.Postgres.URL, c.DatabaseURL)
	c.set(&c.settings.NATS.URL, c.Broker.URL())
	c.set(&c.settings.Upstream.URL, server.URL)
	return c
}

// defaults are the settings of an empty environment, but for one stream, which
// the tests look at.
func defaults(t *testing.T) config.Standalone {
	t.Helper()
	var s config.Standalone
	if err := config.Load(&s); err != nil {
		t.Fatal(err)
	}
	s.StreamShards = 1
	return s
}

func ms(n int) config.Milliseconds { return config.Milliseconds(time.Duration(n) * time.Millisecond) }

func (c *cluster) set(setting interface{ Set(string) error }, value string) {
	c.T.Helper()
	if err := setting.Set(value); err != nil {
		c.T.Fatal(err)
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
	c.T.Helper()
	s := c.settings
	for _, change := range changes {
		change(&s)
	}
	resources, err := Connect(c.T.Context(), role, &s.Process, &s.Daemon, testenv.Logger(c.T))
	if err != nil {
		c.T.Fatal(err)
	}
	resources.Tracer = c.tracer
	var taking context.Context
	r := &running{done: make(chan error, 1), consumer: make(chan *consume.Consumer, 10)}
	taking, r.stop = context.WithCancel(context.Background())
	stopAdmin, err := resources.ServeAdmin(taking, s.Admin, c.tracer != nil, true)
	if err != nil {
		c.T.Fatal(err)
	}
	r.admin, r.observed = resources.AdminAddr, resources.Telemetry
	observe := func(c *consume.Consumer) { r.consumer <- c }
	go func() {
		defer close(r.done)
		defer resources.Close()
		defer stopAdmin()
		switch role {
		case "dispatcher":
			r.done <- Dispatch(taking, context.Background(), resources, s.Dispatcher())
		case "consumer":
			r.done <- Consume(taking, context.Background(), resources, s.Consumer(), observe)
		default:
			r.done <- Standalone(taking, context.Background(), resources, &s, observe)
		}
	}()
	c.T.Cleanup(func() {
		r.stop()
		if err := <-r.done; err != nil {
			c.T.Errorf("%s: %v", role, err)
		}
	})
	return r
}

// begin stores n requests, whose models take turns and whose custom ids begin
// with the prefix, and begins a batch of them.
func (c *cluster) begin(prefix string, n int, models ...string) batch.ID {
	c.T.Helper()
	return c.beginAs("tester", prefix, n, models...)
}

// beginAs is begin for an owner.
func (c *cluster) beginAs(owner, prefix string, n int, models ...string) batch.ID {
	c.T.Helper()
	var file bytes.Buffer
	for i := range n {
		line, err := json.Marshal(map[string]any{
			"custom_id": fmt.Sprintf("%s-%d", prefix, i), "method": "POST", "url": "/v1/chat/completions",
			"body": map[string]any{"model": models[i%len(models)], "messages": []string{}},
		})
		if err != nil {
			c.T.Fatal(err)
		}
		file.Write(append(line, '\n'))
	}
	reader, err := jsonl.NewReader(&file, jsonl.Config{})
	if err != nil {
		c.T.Fatal(err)
	}
	id, _, err := jsonl.Load(c.T.Context(), c.Store, reader, "requests.jsonl", owner, nil)
	if err != nil {
		c.T.Fatal(err)
	}
	created, _, err := c.Store.CreateBatch(c.T.Context(), postgres.NewBatch{
		File: id, CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: owner,
	})
	if err != nil {
		c.T.Fatal(err)
	}
	if err := c.Conn.Publish(streams.HintWork, nil); err != nil {
		c.T.Fatal(err)
	}
	return created
}

// awaitEnd waits until the batch has ended, and wants every request completed.
func (c *cluster) awaitEnd(id batch.ID) {
	c.T.Helper()
	ended := false
	defer func() {
		if !ended {
			c.explain(id)
		}
	}()
	b := c.AwaitStatus(id)
	ended = true
	if b.Counts.Completed != b.Counts.Total {
		c.T.Errorf("counts are %+v, want all completed", b.Counts)
	}
}

// awaitDone waits until that many requests of the batch have ended.
func (c *cluster) awaitDone(id batch.ID, n int64) {
	c.T.Helper()
	testenv.Steadily(c.T, fmt.Sprintf("%d requests have ended", n), func() (int64, bool) {
		done := c.Batch(id).Counts.Done()
		return done, done >= n
	})
}

// calledAtMost fails the test if a request was called more often.
func (c *cluster) calledAtMost(most int64) {
	c.T.Helper()
	for customID, calls := range c.endpoint.CustomIDs() {
		if calls > most {
			c.T.Errorf("%s was called %d times, want at most %d", customID, calls, most)
		}
	}
}

// explain says what is left of a batch that does not end.
func (c *cluster) explain(id batch.ID) {
	c.T.Helper()
	c.T.Logf("counts are %+v", c.Batch(id).Counts)
	rows, err := c.DB.Query(c.T.Context(), `
		SELECT format('%s %s: %s, attempt %s, claim %s, delivery %s, started %s ago, not before %s from now, due %s from now', routed_model, line, state,
		       attempt, claim, delivery, now() - started_at, not_before - now(), due_at - now())
		  FROM requests ORDER BY 1 LIMIT 40`)
	if err != nil {
		c.T.Fatal(err)
	}
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.T.Fatal(err)
	}
	c.T.Logf("live requests:\n%s", strings.Join(left, "\n"))
	consumers, err := c.JS.Stream(c.T.Context(), streams.Stream)
	if err != nil {
		c.T.Fatal(err)
	}
	for info := range consumers.ListConsumers(c.T.Context()).Info() {
		if info.NumPending > 0 || info.NumAckPending > 0 {
			c.T.Logf("consumer %s: %d pending, %d unacked, %d redelivered, %d pulls wait", info.Name, info.NumPending, info.NumAckPending, info.NumRedelivered, info.NumWaiting)
		}
	}
	kv, err := c.JS.KeyValue(c.T.Context(), streams.SlotsBucket)
	if err != nil {
		c.T.Fatal(err)
	}
	entries, err := slots.List(c.T.Context(), kv)
	if err != nil {
		c.T.Fatal(err)
	}
	for model, e := range entries {
		if len(e.Holders) > 0 {
			c.T.Logf("slots of %s: %+v", model, e)
		}
	}
}
