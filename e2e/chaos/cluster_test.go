//go:build chaos && unix

package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/pgconnect"
	"fusillade/internal/testenv/programs"
	"fusillade/internal/testenv/proxy"
)

var models = []string{"gpt-4", "meta-llama/Llama-3.1:8b"}

// options are what a test wants otherwise than usual.
type options struct {
	limit     int      // calls in flight of each model; 0: 10
	latency   string   // of the endpoint
	noErrors  bool     // the endpoint does not fail
	loseHints bool     // the broker drops every hint
	replicas  bool     // three brokers, each with a copy of everything
	settings  []string // win over those that make tests quick
	// database is what everything connects to, without a proxy between; empty: a
	// database of the server that all tests share.
	database string
	// direct leads past a pooler that database leads through.
	direct string
	// look is a server that the test itself reads, be it a standby; empty: where all
	// else is written.
	look string
}

// cluster is a database, a broker, proxies before both, a mock endpoint and the
// pods on them. All but what a fault is about are real processes.
type cluster struct {
	t               *testing.T
	limit           int
	db              *pgxpool.Pool // past the proxy
	broker          *broker       // nil with peers
	peers           *peers        // nil with a broker
	conn            *nats.Conn    // past the proxy
	halves          int64         // brokers that served the same at one time; 0: one
	postgres, nats  *proxy.Proxy
	env, directEnv  []string
	endpoint        *endpoint
	server          string // URL of the API
	pods            []*pod
	graceful        int // consumers that were told to stop
	databaseCrashes int // each may lose starts that were not flushed
	frozen          int // consumers that were frozen and woke

	mu      sync.Mutex
	all     []*programs.Process
	batches []batch.ID
	watcher *watcher
}

func newCluster(t *testing.T, o options) *cluster {
	t.Helper()
	c := &cluster{t: t, limit: o.limit}
	if c.limit == 0 {
		c.limit = 10
	}
	direct := cmp.Or(o.direct, o.database)
	if direct == "" {
		direct = pg.database(t)
	}
	var err error
	if c.db, err = openPool(t.Context(), direct, o.look); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.db.Close)
	var brokerURL, brokerThrough string
	if o.replicas {
		c.peers = newPeers(t)
		brokerURL, brokerThrough = c.peers.urls()
	} else {
		c.broker = newBroker(t, o.loseHints)
		brokerURL = "nats://" + c.broker.addr
		c.nats, brokerThrough = proxy.NATS(t, brokerURL)
	}
	c.conn, err = nats.Connect(brokerURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.conn.Close)
	through, past := o.database, o.database
	if o.database == "" {
		past = direct
		c.postgres, through = proxy.Postgres(t, direct)
	}
	c.endpoint = newEndpoint(t, c.limit, o)
	base := programs.Environment(
		"FUSILLADE_UPSTREAM_URL="+c.endpoint.url, fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", c.limit),
		"FUSILLADE_STREAM_SHARDS=1", // what is lost is all of it
		"FUSILLADE_BACKOFF_MS=50", "FUSILLADE_MAX_BACKOFF_MS=400", "FUSILLADE_CLAIM_TIMEOUT_MS=2000",
		"FUSILLADE_HEARTBEAT_INTERVAL_MS=500", "FUSILLADE_STALE_DAEMON_THRESHOLD_MS=3000",
		"FUSILLADE_CANCELLATION_POLL_INTERVAL_MS=500", "FUSILLADE_DATABASE_MAX_CONNS=6", "FUSILLADE_STATUS_LOG_INTERVAL_MS=none")
	if o.replicas {
		base = append(base, replicatedSettings...)
	}
	base = append(base, o.settings...)
	if o.direct != "" {
		base = append(base, "FUSILLADE_DATABASE_DIRECT_URL="+o.direct)
	}
	base = base[:len(base):len(base)]
	c.env = append(base, "FUSILLADE_DATABASE_URL="+through, "FUSILLADE_NATS_URL="+brokerThrough)
	c.directEnv = append(base, "FUSILLADE_DATABASE_URL="+past, "FUSILLADE_NATS_URL="+brokerURL)
	t.Cleanup(func() {
		if t.Failed() {
			c.describe()
			for _, p := range c.processes() {
				t.Logf("%s (pid %d) printed:\n%s", p.Name, p.PID(), p.Tail())
			}
		}
	})
	c.serve()
	c.watcher = startWatcher(c)
	return c
}

// openPool connects to whichever server takes writes, and leaves one that is frozen.
func openPool(ctx context.Context, url, look string) (*pgxpool.Pool, error) {
	if look != "" {
		return pgxpool.New(ctx, look)
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	pgconnect.Bound(cfg.ConnConfig)
	pgconnect.NewGuard().Install(cfg.ConnConfig)
	return pgxpool.NewWithConfig(ctx, cfg)
}

// serve starts an API past the proxies, which commands use from now on. The
// extra environment is its own.
func (c *cluster) serve(extra ...string) *programs.Process {
	c.t.Helper()
	env := append(c.directEnv[:len(c.directEnv):len(c.directEnv)], "FUSILLADE_LISTEN_ADDR=127.0.0.1:0")
	p, err := built.Launch(append(env, extra...), "api")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		p.Kill()
		p.Sound(c.t)
	})
	c.ran(p)
	c.server = p.URL(c.t)
	return p
}

// pair starts two dispatchers and two consumers.
func (c *cluster) pair() {
	c.t.Helper()
	for _, role := range []string{"dispatcher", "dispatcher", "consumer", "consumer"} {
		c.keep(role)
	}
	c.awaitDaemons(4)
}

func (c *cluster) awaitDaemons(n int64) {
	c.t.Helper()
	poll(c.t, fmt.Sprintf("%d daemons run", n), func() bool { return c.count(`SELECT count(*) FROM daemons WHERE status = 'running'`) >= n })
}

// ran keeps a process whose log may be wanted.
func (c *cluster) ran(p *programs.Process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, p)
}

func (c *cluster) processes() []*programs.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*programs.Process(nil), c.all...)
}

// batch begins a batch of n requests over both models, with custom ids a0, a1, …
// of its own letter.
func (c *cluster) batch(n int) batch.ID {
	c.t.Helper()
	c.mu.Lock()
	letter := string(rune('a' + len(c.batches)))
	c.mu.Unlock()
	var lines bytes.Buffer
	for i := range n {
		line, err := json.Marshal(map[string]any{
			"custom_id": fmt.Sprintf("%s%d", letter, i), "method": "POST", "url": "/v1/chat/completions",
			"body": map[string]any{"model": models[i%len(models)], "messages": []map[string]string{{"role": "user", "content": fmt.Sprintf("question %d", i)}}},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	path := filepath.Join(c.t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(path, lines.Bytes(), 0o600); err != nil {
		c.t.Fatal(err)
	}
	out, err := c.command("batches", "create", path)
	if err != nil {
		c.t.Fatalf("creating a batch: %v: %s", err, out)
	}
	id, err := batch.ParseID(strings.TrimSpace(out))
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches = append(c.batches, id)
	return id
}

func (c *cluster) ids() []batch.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]batch.ID(nil), c.batches...)
}

// command runs the fusillade command to its end.
func (c *cluster) command(args ...string) (string, error) {
	return built.Run(c.t.Context(), programs.Environment("FUSILLADE_SERVER="+c.server), args...)
}

// count reads one number; -1 while the database is away.
func (c *cluster) count(sql string, args ...any) int64 {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	var n int64
	if err := c.db.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		return -1
	}
	return n
}

func (c *cluster) done(id batch.ID) int64 {
	return c.count(`SELECT completed + failed + canceled + expired FROM batches WHERE id = $1`, [16]byte(id))
}

func (c *cluster) awaitDone(id batch.ID, n int) {
	c.t.Helper()
	poll(c.t, fmt.Sprintf("%d requests have ended", n), func() bool { return c.done(id) >= int64(n) })
}

// awaitEnd waits until every batch has ended.
func (c *cluster) awaitEnd() {
	c.t.Helper()
	poll(c.t, "all batches have ended", func() bool {
		return c.count(`SELECT count(*) FROM batches WHERE finished_at IS NULL`) == 0
	})
}

// live is a request in flight somewhere when a fault came.
type live struct {
	batch                          [16]byte
	line, claim, delivery, attempt int32
}

// inHand lists every live request.
func (c *cluster) inHand() []live {
	c.t.Helper()
	var out []live
	poll(c.t, "what is in flight is read", func() bool { // a connection may be that of a server that has gone
		rows, err := c.db.Query(c.t.Context(), `SELECT batch_id, line, claim, delivery, attempt FROM requests`)
		if err != nil {
			return false
		}
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l live, err error) {
			err = row.Scan(&l.batch, &l.line, &l.claim, &l.delivery, &l.attempt)
			return l, err
		})
		return err == nil
	})
	return out
}

// A request has moved on when it has ended, is being called by a start that
// came later, or has been tried once more.
const stuckSQL = `
SELECT count(*) FROM unnest($1::uuid[], $2::int[], $3::int[], $4::int[], $5::int[]) AS f (batch_id, line, claim, delivery, attempt)
  JOIN requests r ON r.batch_id = f.batch_id AND r.line = f.line
 WHERE NOT (r.attempt > f.attempt OR r.state = 'processing' AND (r.claim, r.delivery) <> (f.claim, f.delivery))`

// awaitMoved waits until everything that was in flight has moved on, and returns
// how long after the given time that was.
func (c *cluster) awaitMoved(held []live, since time.Time) time.Duration {
	c.t.Helper()
	var batches [][16]byte
	var lines, claims, deliveries, attempts []int32
	for _, l := range held {
		batches, lines = append(batches, l.batch), append(lines, l.line)
		claims, deliveries, attempts = append(claims, l.claim), append(deliveries, l.delivery), append(attempts, l.attempt)
	}
	poll(c.t, "what was in flight has moved on", func() bool {
		return c.count(stuckSQL, batches, lines, claims, deliveries, attempts) == 0
	})
	return time.Since(since)
}

// awaitEmpty waits until no message is left in the stream.
func (c *cluster) awaitEmpty() {
	c.t.Helper()
	js, err := jetstream.New(c.conn)
	if err != nil {
		c.t.Fatal(err)
	}
	left := uint64(0)
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%d messages are left in the stream", left)
		}
	}()
	poll(c.t, "the stream is empty", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		stream, err := js.Stream(ctx, "REQUESTS")
		if err != nil {
			return false
		}
		left = stream.CachedInfo().State.Msgs
		return left == 0
	})
}
