package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/mock"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// cluster is a database, a broker, a mock endpoint and the processes that a
// test starts on them.
type cluster struct {
	t   *testing.T
	env []string
	// databaseURL and natsURL are in env too.
	databaseURL, natsURL string

	store  *postgres.Store
	db     *pgxpool.Pool // to look at the tables themselves
	broker *nats.Conn
	mock   *mock.Server
	server string // URL of the API; empty: none was started
}

// newCluster prepares everything but the processes. Settings win over those
// that make tests quick.
func newCluster(t *testing.T, answers mock.Settings, settings ...string) *cluster {
	t.Helper()
	databaseURL, broker := testenv.DatabaseURL(t), testenv.NATS(t)
	endpoint, err := mock.New(mock.Config{Settings: answers, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(endpoint)
	t.Cleanup(server.Close)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: databaseURL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	db, err := pgxpool.New(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	env := programs.Environment(
		"FUSILLADE_DATABASE_URL="+databaseURL, "FUSILLADE_NATS_URL="+broker.URL(), "FUSILLADE_UPSTREAM_URL="+server.URL,
		"FUSILLADE_BACKOFF_MS=50", "FUSILLADE_MAX_BACKOFF_MS=400",
		"FUSILLADE_HEARTBEAT_INTERVAL_MS=1000", "FUSILLADE_STALE_DAEMON_THRESHOLD_MS=6000",
		"FUSILLADE_DATABASE_MAX_CONNS=6")
	return &cluster{t: t, env: append(env, settings...), databaseURL: databaseURL, natsURL: broker.URL(), store: store, db: db, broker: testenv.Connect(t, broker), mock: endpoint}
}

// start runs a program of the cluster until the end of the test at most.
func (c *cluster) start(name string, args ...string) *programs.Process {
	c.t.Helper()
	return built.Start(c.t, c.env, name, args...)
}

// run runs the fusillade command to its end and returns what it printed.
func (c *cluster) run(args ...string) string {
	c.t.Helper()
	out, err := built.Run(c.t.Context(), c.env, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// serveAPI starts an API that asks for no keys, unless there is one, for the
// commands of the cluster.
func (c *cluster) serveAPI() {
	c.t.Helper()
	if c.server != "" {
		return
	}
	env := c.env
	c.env = append(slices.Clone(env), "FUSILLADE_LISTEN_ADDR=127.0.0.1:0")
	c.server = c.start("api").URL(c.t)
	c.env = append(env, "FUSILLADE_SERVER="+c.server)
}

// createBatch stores a file of requests and begins a batch.
func (c *cluster) createBatch(path string) batch.ID {
	c.t.Helper()
	c.serveAPI()
	id, err := batch.ParseID(c.run("batches", "create", path))
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

func poll(t *testing.T, what string, done func() bool) {
	t.Helper()
	testenv.Eventually(t, what, done)
}

// await reads the batch until the condition holds, and checks at every look
// that its counts sum to the total.
func (c *cluster) await(id batch.ID, what string, holds func(postgres.Batch) bool) (b postgres.Batch) {
	c.t.Helper()
	poll(c.t, what, func() bool {
		var err error
		if b, err = c.store.GetBatch(c.t.Context(), id, nil); err != nil {
			c.t.Fatal(err)
		}
		n := b.Counts
		if n.Pending+n.InProgress+n.Done() != n.Total || min(n.Pending, n.InProgress) < 0 {
			c.t.Fatalf("counts do not sum to the total: %+v", n)
		}
		return holds(b)
	})
	return b
}

// awaitEnd waits, however slow the machine is, as long as requests end.
func (c *cluster) awaitEnd(id batch.ID) postgres.Batch {
	c.t.Helper()
	var b postgres.Batch
	testenv.Steadily(c.t, "the batch has ended", func() (int64, bool) {
		b = c.await(id, "it is read", func(postgres.Batch) bool { return true })
		return b.Counts.Done(), b.Status.Terminal()
	})
	return b
}

// check verifies the rows of a batch.
func (c *cluster) check(id batch.ID) {
	c.t.Helper()
	if err := checker.Check(c.t.Context(), c.db, id); err != nil {
		c.t.Error(err)
	}
}

// requests writes a file of n requests spread over the models, with custom
// ids r0, r1, ….
func requests(t *testing.T, n int, models ...string) string {
	t.Helper()
	var out bytes.Buffer
	for i := range n {
		line, err := json.Marshal(map[string]any{
			"custom_id": fmt.Sprintf("r%d", i), "method": "POST", "url": "/v1/chat/completions",
			"body": map[string]any{"model": models[i%len(models)], "messages": []map[string]string{{"role": "user", "content": fmt.Sprintf("question %d", i)}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(line, '\n'))
	}
	path := filepath.Join(t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// customIDs reads the custom ids of result files; one that comes twice fails
// the test.
func customIDs(t *testing.T, paths ...string) map[string]bool {
	t.Helper()
	seen := make(map[string]bool)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(raw) {
			var r struct {
				CustomID string `json:"custom_id"`
			}
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if seen[r.CustomID] {
				t.Errorf("%s comes twice", r.CustomID)
			}
			seen[r.CustomID] = true
		}
	}
	return seen
}
