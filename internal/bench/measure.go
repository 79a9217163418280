package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// measurement is one run of the benchmark.
type measurement struct {
	options *Options
	store   *postgres.Store
	conn    *nats.Conn
	mock    *mockProcess
	// wait waits for the end of a batch.
	wait func(context.Context, batch.ID) (postgres.Batch, error)
	// watch does too, and calls each with what is read meanwhile; nil: others do the work.
	watch func(ctx context.Context, id batch.ID, each func(postgres.Batch) error) (postgres.Batch, error)
	// spent says what this process has spent; nil: others do the work.
	spent func() spending
	// inFlight is how many calls it makes now; nil: others do the work.
	inFlight func() int

	files   []batch.FileID // made so far
	batches []batch.ID
}

// spending is what a process has used since it began.
type spending struct {
	cpu, databaseCPU, calls time.Duration
}

const (
	owner        = "fusillade bench"
	benchModel   = "fusillade-bench"
	pickupModel  = "fusillade-bench-pickup"
	minBodyBytes = 128
)

// modelName is the name of the model with that number.
func modelName(i int) string {
	if i == 0 {
		return benchModel
	}
	return fmt.Sprintf("%s-%d", benchModel, i)
}

// local runs the pipeline in this process and measures it.
func (m *measurement) local(s cli.Signals, st *setup) (r report, err error) {
	arrivals, stopPickup, err := servePickups("127.0.0.1:0")
	if err != nil {
		return r, err
	}
	defer stopPickup()
	if err := st.cfg.Upstream.Models.Set(pickupModel + "=" + arrivals.url); err != nil {
		return r, err
	}
	// Before the pipeline runs, for the figure is that of the load alone.
	file, ingest, err := m.load(s.Taking, modelName, m.options.Requests, m.options.Models)
	if err != nil {
		return r, err
	}
	stop := m.begin(s, st)
	defer func() { err = errors.Join(err, stop()) }()
	r, err = m.run(s.Taking, file, arrivals)
	r.IngestPerSecond = ingest
	return r, err
}

// run measures the pickup, and a batch of the file between two halves of the bare
// loop: a machine whose speed drifts is the same for both.
func (m *measurement) run(ctx context.Context, file batch.FileID, arrivals *arrivals) (r report, err error) {
	o := m.options
	r = report{Requests: o.Requests, Models: o.Models, Concurrency: o.Concurrency, LatencyMS: ms(o.Latency), BodyBytes: o.BodyBytes, Runs: 1}
	if r.PickupMS, err = m.pickups(ctx, arrivals); err != nil {
		return r, err
	}
	before, err := m.bare(ctx)
	if err != nil {
		return r, err
	}
	if err := m.pipeline(ctx, file, &r); err != nil {
		return r, err
	}
	after, err := m.bare(ctx)
	if err != nil {
		return r, err
	}
	r.BarePerSecond = 2 / (1/before + 1/after)
	r.BareRatio = r.PerSecond / r.BarePerSecond
	return r, nil
}

// pipeline times a batch from its creation to its last counted result, by the
// database's clock.
func (m *measurement) pipeline(ctx context.Context, file batch.FileID, r *report) error {
	wal, err := m.store.WALBytes(ctx)
	if err != nil {
		return err
	}
	if m.options.CPUProfile != "" {
		stop, err := profile(m.options.CPUProfile)
		if err != nil {
			return err
		}
		defer stop()
	}
	var before spending
	if m.spent != nil {
		before = m.spent()
	}
	calls := newWaiting(m)
	began := time.Now()
	id, err := m.create(ctx, file)
	if err != nil {
		return err
	}
	r.CreateBatchMS = ms(time.Since(began))
	b, err := m.waitFor(ctx, id, calls)
	if err != nil {
		return err
	}
	calls.report(r)
	if b.Counts.Completed != b.Counts.Total {
		return fmt.Errorf("%d of %d requests completed: see the log", b.Counts.Completed, b.Counts.Total)
	}
	n, took := float64(b.Counts.Total), b.FinishedAt.Sub(b.CreatedAt)
	r.PerSecond = n / took.Seconds()
	if m.spent != nil {
		after := m.spent()
		r.DatabaseCPU = (after.databaseCPU - before.databaseCPU).Seconds() / n
		r.CPUSeconds = (after.cpu-before.cpu).Seconds()/n + r.DatabaseCPU
		r.SlotUse = (after.calls - before.calls).Seconds() / (took.Seconds() * float64(m.options.Concurrency))
	}
	end, err := m.store.WALBytes(ctx)
	r.WALBytes = float64(end-wal) / n
	return err
}

// waitFor waits for the end of a batch, and looks at its calls meanwhile.
func (m *measurement) waitFor(ctx context.Context, id batch.ID, calls *waiting) (postgres.Batch, error) {
	if calls == nil {
		return m.wait(ctx, id)
	}
	return m.watch(ctx, id, calls.look)
}

func profile(path string) (stop func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}

// load stores a file of requests, and returns how many it stored a second.
func (m *measurement) load(ctx context.Context, name func(int) string, requests, models int) (file batch.FileID, perSecond float64, err error) {
	return m.loadFrom(ctx, m.lines(name, requests, models), requests, models)
}

// lines are those of a file of requests.
func (m *measurement) lines(name func(int) string, requests, models int) *lines {
	l := &lines{left: requests, bodies: make([][]byte, models)}
	for i := range l.bodies {
		l.bodies[i] = requestBody(name(i), m.options.BodyBytes)
	}
	return l
}

// loadFrom stores the requests that are read.
func (m *measurement) loadFrom(ctx context.Context, source io.Reader, requests, models int) (file batch.FileID, perSecond float64, err error) {
	began := time.Now()
	reader, err := jsonl.NewReader(source, jsonl.Config{Limits: jsonl.Limits{MaxRequests: requests, MaxModels: models, MaxFileBytes: 1 << 40}})
	if err != nil {
		return file, 0, err
	}
	file, _, err = jsonl.Load(ctx, m.store, reader, "bench", owner, nil)
	if err == nil {
		m.files = append(m.files, file)
	}
	return file, float64(requests) / time.Since(began).Seconds(), err
}

func (m *measurement) create(ctx context.Context, file batch.FileID) (batch.ID, error) {
	id, _, err := m.store.CreateBatch(ctx, postgres.NewBatch{
		File: file, CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: owner,
	})
	if err != nil {
		return id, err
	}
	m.batches = append(m.batches, id)
	return id, m.conn.Publish(streams.HintWork, nil)
}

// pickups creates batches of one request, each when the pipeline is idle, and
// times the arrival of its call.
func (m *measurement) pickups(ctx context.Context, arrivals *arrivals) (pickup, error) {
	file, _, err := m.load(ctx, func(int) string { return pickupModel }, 1, 1)
	if err != nil {
		return pickup{}, err
	}
	var times []time.Duration
	for i := range m.options.Pickups + 1 {
		began := time.Now()
		id, err := m.create(ctx, file)
		if err != nil {
			return pickup{}, err
		}
		select {
		case at := <-arrivals.at:
			if i > 0 { // the first one opens the model's lane
				times = append(times, at.Sub(began))
			}
		case <-time.After(time.Minute):
			return pickup{}, errors.New("a batch was not picked up within a minute: see whether a dispatcher and a consumer run, and whether the consumers reach " + arrivals.url)
		}
		if _, err := m.wait(ctx, id); err != nil {
			return pickup{}, err
		}
	}
	slices.Sort(times)
	return pickup{P50: ms(times[(len(times)-1)/2]), P99: ms(times[(len(times)-1)*99/100])}, nil
}

// arrivals tells when calls arrive at a server in this process.
type arrivals struct {
	url string
	at  chan time.Time
}

func servePickups(addr string) (*arrivals, func(), error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	a := &arrivals{url: "http://" + listener.Addr().String(), at: make(chan time.Time, 1)}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a.at <- time.Now()
		_, _ = io.WriteString(w, `{"choices":[{"message":{"content":"x"}}]}`)
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	return a, func() { _ = server.Close(); <-served }, nil
}

// connecting is how many calls of the bare loop wait for a connection at once. By
// HTTP/2 hundreds share one: all that begin while there is none would open one each.
const connecting = 64

// bare makes half of the calls with nothing around them, and returns its rate.
func (m *measurement) bare(ctx context.Context) (float64, error) {
	transport := &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: m.options.Concurrency, ReadBufferSize: 16 << 10, WriteBufferSize: 16 << 10}
	if m.mock.roots != nil {
		transport.TLSClientConfig, transport.ForceAttemptHTTP2 = &tls.Config{RootCAs: m.mock.roots, MinVersion: tls.VersionTLS12}, true
	}
	defer transport.CloseIdleConnections()
	body := requestBody(benchModel, m.options.BodyBytes)
	var left atomic.Int64
	left.Store(int64(max(m.options.Requests/2, 1)))
	n := float64(left.Load())
	errs := make(chan error, m.options.Concurrency)
	gate := make(chan struct{}, connecting)
	var workers sync.WaitGroup
	began := time.Now()
	for range m.options.Concurrency {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := bareCall(ctx, transport, gate, m.mock.url+"/v1/chat/completions", body); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return 0, fmt.Errorf("bare loop: %w", err)
	default:
		return n / took.Seconds(), nil
	}
}

func bareCall(ctx context.Context, transport *http.Transport, gate chan struct{}, url string, body []byte) error {
	if transport.ForceAttemptHTTP2 {
		gate <- struct{}{}
		leave := sync.OnceFunc(func() { <-gate })
		defer leave()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { leave() }})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	// Not sent, but says that a call on a connection that was just closed may be sent again.
	req.Header["Idempotency-Key"] = []string{}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

func requestBody(model string, size int) []byte {
	head := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"`, model)
	const tail = `"}]}`
	return []byte(head + strings.Repeat("x", max(size-len(head)-len(tail), 0)) + tail)
}

// lines generates a file of requests as it is read.
type lines struct {
	left   int
	bodies [][]byte // by model, in turn
	buf    []byte
}

func (l *lines) Read(p []byte) (int, error) {
	if len(l.buf) == 0 {
		if l.left == 0 {
			return 0, io.EOF
		}
		l.buf = fmt.Appendf(l.buf[:0], `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", l.left, l.bodies[l.left%len(l.bodies)])
		l.left--
	}
	n := copy(p, l.buf)
	l.buf = l.buf[n:]
	return n, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
