//go:build scaling && linux

package scaling

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
	"fusillade/streams"
)

// built is where the programs under test are.
var built programs.Dir

func TestMain(m *testing.M) {
	programs.Main(m, &built, func() (programs.Dir, error) { return programs.Build("../..", "scaling", programs.Commands) })
}

// cluster is a dispatcher, some consumers, a mock endpoint in a process of its own,
// a broker in this process, and a database.
type cluster struct {
	t          *testing.T
	store      *postgres.Store
	conn       *nats.Conn
	database   string // its name
	consumers  []int  // process ids
	dispatcher int
	endpoint   int
	processes  []*programs.Process
}

// newCluster starts consumers of so many calls each, of a model that takes so long.
func newCluster(t *testing.T, consumers, inFlight int, latency time.Duration) *cluster {
	t.Helper()
	url, broker := testenv.DatabaseURL(t), testenv.NATS(t)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	path, _, _ := strings.Cut(url[strings.LastIndexByte(url, '/')+1:], "?")
	c := &cluster{t: t, store: store, conn: testenv.Connect(t, broker), database: path}
	mock := built.Start(t, programs.Environment(), "fusillade", "mock", "--listen", "127.0.0.1:0", "--no-custom-ids", "--latency", latency.String())
	c.endpoint = mock.PID()
	env := programs.Environment(
		"FUSILLADE_DATABASE_URL="+url, "FUSILLADE_NATS_URL="+broker.URL(), "FUSILLADE_UPSTREAM_URL="+mock.URL(t),
		fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", consumers*inFlight), fmt.Sprintf("FUSILLADE_MAX_IN_FLIGHT=%d", inFlight),
		"FUSILLADE_STATUS_LOG_INTERVAL_MS=none")
	dispatcher := built.Start(t, env, "dispatcher")
	c.dispatcher = dispatcher.PID()
	c.processes = append(c.processes, mock, dispatcher)
	for range consumers {
		p := built.Start(t, env, "consumer")
		c.consumers = append(c.consumers, p.PID())
		c.processes = append(c.processes, p)
	}
	c.run(10 * consumers) // all of them are up, and have their connections
	return c
}

// stop ends the programs, so that the next cluster has the machine alone.
func (c *cluster) stop() {
	for _, p := range c.processes {
		p.Kill()
	}
}

// use is what each part has used of the processors.
type use struct{ consumers, dispatcher, postgres, broker, endpoint time.Duration }

func (u use) minus(v use) use {
	return use{u.consumers - v.consumers, u.dispatcher - v.dispatcher, u.postgres - v.postgres, u.broker - v.broker, u.endpoint - v.endpoint}
}

func (c *cluster) used() (u use) {
	for _, pid := range c.consumers {
		u.consumers += cpuOf(pid)
	}
	u.dispatcher, u.endpoint = cpuOf(c.dispatcher), cpuOf(c.endpoint)
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		c.t.Fatal(err)
	}
	u.broker = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(line, []byte("postgres:")) || !bytes.Contains(line, []byte(c.database)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			u.postgres += cpuOf(pid)
		}
	}
	return u
}

// cpuOf is the CPU time of a process. Format: proc(5); ticks of 1/100 s.
func cpuOf(pid int) (sum time.Duration) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0 // it has ended
	}
	for _, ticks := range strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[11:13] {
		n, _ := strconv.Atoi(ticks)
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// figures are of one batch.
type figures struct {
	requests int
	took     time.Duration // by the database's clock
	use      use
	wal      float64
}

func (f figures) perSecond() float64 { return float64(f.requests) / f.took.Seconds() }

// run has the cluster work on a batch of so many requests.
func (c *cluster) run(requests int) figures {
	c.t.Helper()
	const body = `{"model":"scaling","messages":[{"role":"user","content":"%s"}]}`
	line := fmt.Sprintf(`{"custom_id":"%%d","method":"POST","url":"/v1/chat/completions","body":`+body+"}\n", strings.Repeat("x", 900))
	var file strings.Builder
	for i := range requests {
		fmt.Fprintf(&file, line, i)
	}
	reader, err := jsonl.NewReader(strings.NewReader(file.String()), jsonl.Config{Limits: jsonl.Limits{MaxRequests: requests, MaxModels: 1, MaxFileBytes: 1 << 40}})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx := c.t.Context()
	id, _, err := jsonl.Load(ctx, c.store, reader, "scaling", "scaling", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	before, wal := c.used(), c.wal(ctx)
	b, _, err := c.store.CreateBatch(ctx, postgres.NewBatch{File: id, CompletionWindow: time.Hour, WindowText: "1h", CreatedBy: "scaling"})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.conn.Publish(streams.HintWork, nil); err != nil {
		c.t.Fatal(err)
	}
	ended := c.end(ctx, b)
	return figures{requests: requests, took: ended.FinishedAt.Sub(ended.CreatedAt), use: c.used().minus(before), wal: c.wal(ctx) - wal}
}

func (c *cluster) wal(ctx context.Context) float64 {
	n, err := c.store.WALBytes(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return float64(n)
}

func (c *cluster) end(ctx context.Context, id batch.ID) (b postgres.Batch) {
	testenv.Until(c.t, 5*time.Minute, "the batch has ended", func() bool {
		var err error
		if b, err = c.store.GetBatch(ctx, id, nil); err != nil {
			c.t.Fatal(err)
		}
		return b.Status.Terminal()
	})
	if b.Counts.Completed != b.Counts.Total {
		c.t.Fatalf("%d of %d requests are completed", b.Counts.Completed, b.Counts.Total)
	}
	return b
}

// idle is what the cluster uses of the processors while it has nothing to do.
func (c *cluster) idle(over time.Duration) use {
	runtime.GC()
	before := c.used()
	select {
	case <-time.After(over):
	case <-c.t.Context().Done():
	}
	return c.used().minus(before)
}
