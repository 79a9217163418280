package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/jsonl"
	"fusillade/internal/localrun"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// measurement is one run of the benchmark.
type measurement struct {
	options  *Options
	cfg      *config.Standalone
	local    *app.Local
	mock     *mockProcess
	cpu      *cpuClock
	consumer atomic.Pointer[consume.Consumer]
}

const (
	owner        = "fusillade bench"
	benchModel   = "bench"
	pickupModel  = "pickup"
	minBodyBytes = 128
)

func (m *measurement) run(s cli.Signals) (r report, err error) {
	o := m.options
	r = report{Requests: o.Requests, Concurrency: o.Concurrency, LatencyMS: ms(o.Latency), BodyBytes: o.BodyBytes, Runs: 1}

	began := time.Now()
	file, err := m.load(s.Taking, benchModel, o.Requests)
	if err != nil {
		return r, err
	}
	r.IngestPerSecond = float64(o.Requests) / time.Since(began).Seconds()

	arrivals, stopPickup, err := servePickups()
	if err != nil {
		return r, err
	}
	defer stopPickup()
	if err := m.cfg.Upstream.Models.Set(pickupModel + "=" + arrivals.url); err != nil {
		return r, err
	}

	taking, stopTaking := context.WithCancel(s.Taking)
	defer stopTaking()
	doing, stopDoing := context.WithCancel(s.Doing)
	defer stopDoing()
	finished := make(chan error, 1)
	go func() {
		finished <- app.Standalone(taking, doing, m.local.Resources, m.cfg, func(c *consume.Consumer) { m.consumer.Store(c) })
		close(finished)
	}()
	defer func() {
		stopTaking()
		stopDoing()
		err = errors.Join(err, <-finished)
	}()

	if r.PickupMS, err = m.pickups(s.Taking, arrivals, finished); err != nil {
		return r, err
	}
	// Half of the bare loop before and half after, against a drifting machine.
	before, err := m.bare(s.Taking)
	if err != nil {
		return r, err
	}
	if err := m.pipeline(s.Taking, file, finished, &r); err != nil {
		return r, err
	}
	after, err := m.bare(s.Taking)
	if err != nil {
		return r, err
	}
	r.BarePerSecond = 2 / (1/before + 1/after)
	r.BareRatio = r.PerSecond / r.BarePerSecond
	return r, nil
}

// pipeline times a batch from its creation to its last counted result, by the
// database's clock.
func (m *measurement) pipeline(ctx context.Context, file batch.FileID, finished <-chan error, r *report) error {
	wal, err := m.local.Store.WALBytes(ctx)
	if err != nil {
		return err
	}
	callTime := m.consumer.Load().Stats().CallTime
	if m.options.CPUProfile != "" {
		stop, err := profile(m.options.CPUProfile)
		if err != nil {
			return err
		}
		defer stop()
	}
	self, database := m.cpu.seconds()
	began := time.Now()
	id, err := m.create(ctx, file)
	if err != nil {
		return err
	}
	r.CreateBatchMS = ms(time.Since(began))
	b, err := localrun.Watch(ctx, m.local, id, finished, func(postgres.Batch) error { return nil })
	if err != nil {
		return err
	}
	if b.Counts.Completed != b.Counts.Total {
		return fmt.Errorf("%d of %d requests completed: see the log", b.Counts.Completed, b.Counts.Total)
	}
	n, took := float64(b.Counts.Total), b.FinishedAt.Sub(b.CreatedAt)
	r.PerSecond = n / took.Seconds()
	selfEnd, databaseEnd := m.cpu.seconds()
	r.DatabaseCPU = (databaseEnd - database) / n
	r.CPUSeconds = (selfEnd-self)/n + r.DatabaseCPU
	r.SlotUse = (m.consumer.Load().Stats().CallTime - callTime).Seconds() / (took.Seconds() * float64(m.options.Concurrency))
	end, err := m.local.Store.WALBytes(ctx)
	r.WALBytes = float64(end-wal) / n
	return err
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

func (m *measurement) load(ctx context.Context, model string, requests int) (batch.FileID, error) {
	source := &lines{model: model, left: requests, body: requestBody(model, m.options.BodyBytes)}
	reader, err := jsonl.NewReader(source, jsonl.Config{Limits: jsonl.Limits{MaxRequests: requests, MaxFileBytes: 1 << 40}})
	if err != nil {
		return batch.FileID{}, err
	}
	file, _, err := jsonl.Load(ctx, m.local.Store, reader, "bench", owner, nil)
	return file, err
}

func (m *measurement) create(ctx context.Context, file batch.FileID) (batch.ID, error) {
	id, _, err := m.local.Store.CreateBatch(ctx, postgres.NewBatch{
		File: file, CompletionWindow: 24 * time.Hour, WindowText: "24h", CreatedBy: owner,
	})
	if err != nil {
		return id, err
	}
	return id, m.local.Conn.Publish(streams.HintWork, nil)
}

// pickups creates batches of one request, each when the pipeline is idle, and
// times the arrival of its call.
func (m *measurement) pickups(ctx context.Context, arrivals *arrivals, finished <-chan error) (pickup, error) {
	file, err := m.load(ctx, pickupModel, 1)
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
			return pickup{}, errors.New("a batch was not picked up within a minute")
		}
		if _, err := localrun.Watch(ctx, m.local, id, finished, func(postgres.Batch) error { return nil }); err != nil {
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

func servePickups() (*arrivals, func(), error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
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

// bare makes half of the calls with nothing around them, and returns its rate.
func (m *measurement) bare(ctx context.Context) (float64, error) {
	transport := &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: m.options.Concurrency, ReadBufferSize: 16 << 10, WriteBufferSize: 16 << 10}
	defer transport.CloseIdleConnections()
	body := requestBody(benchModel, m.options.BodyBytes)
	var left atomic.Int64
	left.Store(int64(max(m.options.Requests/2, 1)))
	n := float64(left.Load())
	errs := make(chan error, m.options.Concurrency)
	var workers sync.WaitGroup
	began := time.Now()
	for range m.options.Concurrency {
		workers.Go(func() {
			for left.Add(-1) >= 0 {
				if err := bareCall(ctx, transport, m.mock.url+"/v1/chat/completions", body); err != nil {
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

func bareCall(ctx context.Context, transport *http.Transport, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
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
	model string
	left  int
	body  []byte
	buf   []byte
}

func (l *lines) Read(p []byte) (int, error) {
	if len(l.buf) == 0 {
		if l.left == 0 {
			return 0, io.EOF
		}
		l.buf = fmt.Appendf(l.buf[:0], `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", l.left, l.body)
		l.left--
	}
	n := copy(p, l.buf)
	l.buf = l.buf[n:]
	return n, nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
