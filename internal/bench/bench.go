// Package bench measures the whole of it on one machine, from a file to counted
// results, against a loop that only makes the calls.
package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"fusillade/internal/cli"
	"fusillade/internal/config"
)

// Options say what is measured.
type Options struct {
	Requests    int           // of one run
	Models      int           // that share them
	Latency     time.Duration // of the mock endpoint
	Concurrency int           // calls in flight
	BodyBytes   int           // of a request
	Pickups     int           // batches of one request with which to measure the pickup
	Runs        int           // every figure is the median of them
	Replicas    int           // NATS servers with a copy of everything each, measured against one; 0: one in this process
	DataDir     string        // empty: a temporary directory
	JSON        bool
	CPUProfile  string // file; empty: none. With Replicas, that with one server is in FILE.one
	// CurveFile gets the curve of a run from file to output, as CSV; empty: none.
	CurveFile string
	// HTTP2 has the mock endpoint speak HTTP/2, over TLS: tens of thousands of calls in
	// flight take hundreds of connections then, and of files.
	HTTP2 bool
	// Host is this machine's name or address as a cluster reaches it.
	Host string
}

func (o *Options) check() error {
	if o.Requests < 1 || o.Models < 1 || o.Concurrency < 1 || o.Runs < 1 || o.Pickups < 1 || o.BodyBytes < minBodyBytes {
		return fmt.Errorf("--requests, --models, --concurrency, --runs and --pickups must be positive, --body-bytes at least %d", minBodyBytes)
	}
	if o.Replicas != 0 && (o.Replicas < 2 || o.Replicas > maxReplicas) {
		return fmt.Errorf("--replicas must be from 2 to %d", maxReplicas)
	}
	return nil
}

// maxReplicas is what JetStream keeps at most.
const maxReplicas = 5

// report is what a run measured. Every figure is of this machine with
// everything on it: the mock endpoint, Postgres, the broker and the pipeline.
type report struct {
	Requests    int     `json:"requests"`
	Models      int     `json:"models"`
	Concurrency int     `json:"concurrency"`
	LatencyMS   float64 `json:"latency_ms"`
	BodyBytes   int     `json:"body_bytes"`
	Runs        int     `json:"runs"`

	IngestPerSecond float64 `json:"ingest_requests_per_second"`
	CreateBatchMS   float64 `json:"create_batch_ms"`
	PerSecond       float64 `json:"requests_per_second"`
	BarePerSecond   float64 `json:"bare_requests_per_second"`
	BareRatio       float64 `json:"bare_ratio"`
	SlotUse         float64 `json:"slot_use,omitempty"`
	PickupMS        pickup  `json:"pickup_ms"`
	WALBytes        float64 `json:"wal_bytes_per_request"`
	CPUSeconds      float64 `json:"cpu_seconds_per_request,omitempty"`
	DatabaseCPU     float64 `json:"database_cpu_seconds_per_request,omitempty"` // Postgres's part of it

	// Of a run with calls of waitingLatency or more, while all of them wait: memory of
	// this process for each, and cores that it uses.
	WaitingBytes float64 `json:"waiting_bytes_per_call,omitempty"`
	WaitingCores float64 `json:"waiting_cores,omitempty"`

	Replicas        int     `json:"replicas,omitempty"`                          // of streams and buckets, in the run of the figures above
	SinglePerSecond float64 `json:"single_server_requests_per_second,omitempty"` // the same with one NATS server
	ReplicasRatio   float64 `json:"replicas_ratio,omitempty"`                    // of the two
	// SingleCPUSeconds is CPUSeconds with one NATS server: the two tell what replicas
	// cost also where others use the machine.
	SingleCPUSeconds float64 `json:"single_server_cpu_seconds_per_request,omitempty"`
}

// pickup is the time from the creation of a batch to its first call.
type pickup struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// Run measures and prints. Each run begins with settings of its own.
func Run(s cli.Signals, t *cli.Terminal, o Options, settings func() (*config.Standalone, error)) error {
	if err := o.check(); err != nil {
		return cli.Usage(err)
	}
	var reports []report
	for i := range o.Runs {
		r, err := compare(s, t, &o, settings)
		if err != nil {
			return err
		}
		noteRun(t, &o, i, r)
		reports = append(reports, r)
	}
	return show(t, &o, reports)
}

// noteRun says what one of several runs measured.
func noteRun(t *cli.Terminal, o *Options, i int, r report) {
	if o.Runs > 1 {
		t.Notef("run %d: %.0f requests/s, %.0f %% of the bare loop's %.0f", i+1, r.PerSecond, 100*r.BareRatio, r.BarePerSecond)
	}
}

// show prints the medians.
func show(t *cli.Terminal, o *Options, reports []report) error {
	r := medians(reports)
	if o.JSON {
		return json.NewEncoder(t.Out).Encode(r)
	}
	return r.print(t, o)
}

// compare measures once, and with replicas once more with a single server, which
// keeps its streams in files as the others do.
func compare(s cli.Signals, t *cli.Terminal, o *Options, settings func() (*config.Standalone, error)) (report, error) {
	var single report
	if o.Replicas > 0 {
		cfg, err := settings()
		if err != nil {
			return report{}, err
		}
		alone := *o
		if alone.CPUProfile != "" {
			alone.CPUProfile += ".one"
		}
		if single, err = once(s, t, &alone, cfg, 1); err != nil {
			return single, err
		}
	}
	cfg, err := settings()
	if err != nil {
		return report{}, err
	}
	r, err := once(s, t, o, cfg, o.Replicas)
	if err == nil && o.Replicas > 0 {
		r.Replicas, r.SinglePerSecond, r.ReplicasRatio = o.Replicas, single.PerSecond, r.PerSecond/single.PerSecond
		r.SingleCPUSeconds = single.CPUSeconds
	}
	return r, err
}

func once(s cli.Signals, t *cli.Terminal, o *Options, cfg *config.Standalone, servers int) (r report, err error) {
	st, err := setUp(s, o, cfg, servers)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	m := &measurement{options: o, store: st.local.Store, conn: st.local.Conn, mock: st.mock}
	return m.local(s, st)
}

func (r *report) print(t *cli.Terminal, o *Options) error {
	w := cli.NewTable(t.Out, "")
	fmt.Fprintf(w, "requests\t%d of %d bytes to %d models, %d in flight, calls of %v\n", r.Requests, r.BodyBytes, r.Models, r.Concurrency, o.Latency)
	fmt.Fprintf(w, "ingest\t%.0f requests/s\n", r.IngestPerSecond)
	fmt.Fprintf(w, "batch created in\t%.1f ms\n", r.CreateBatchMS)
	fmt.Fprintf(w, "pipeline\t%.0f requests/s\n", r.PerSecond)
	fmt.Fprintf(w, "bare HTTP loop\t%.0f requests/s\n", r.BarePerSecond)
	fmt.Fprintf(w, "ratio\t%.1f %%\n", 100*r.BareRatio)
	if r.Replicas > 0 {
		fmt.Fprintf(w, "one NATS server\t%.0f requests/s\n", r.SinglePerSecond)
		fmt.Fprintf(w, "%d NATS servers\t%.1f %% of it\n", r.Replicas, 100*r.ReplicasRatio)
	}
	if r.SlotUse > 0 {
		fmt.Fprintf(w, "slot use\t%.1f %%\n", 100*r.SlotUse)
	}
	fmt.Fprintf(w, "pickup\tp50 %.1f ms, p99 %.1f ms\n", r.PickupMS.P50, r.PickupMS.P99)
	fmt.Fprintf(w, "WAL\t%.0f bytes/request\n", r.WALBytes)
	if r.CPUSeconds > 0 {
		fmt.Fprintf(w, "CPU\t%.0f µs/request, of which Postgres %.0f\n", 1e6*r.CPUSeconds, 1e6*r.DatabaseCPU)
	}
	if r.SingleCPUSeconds > 0 {
		fmt.Fprintf(w, "with one NATS server\t%.0f µs/request\n", 1e6*r.SingleCPUSeconds)
	}
	if r.WaitingBytes > 0 {
		fmt.Fprintf(w, "while all wait\t%.0f bytes/call, %.1f %% of a core\n", r.WaitingBytes, 100*r.WaitingCores)
	}
	return w.Flush()
}

func medians(reports []report) report {
	r := reports[0]
	r.Runs = len(reports)
	for _, field := range []func(*report) *float64{
		func(r *report) *float64 { return &r.IngestPerSecond },
		func(r *report) *float64 { return &r.CreateBatchMS },
		func(r *report) *float64 { return &r.PerSecond },
		func(r *report) *float64 { return &r.BarePerSecond },
		func(r *report) *float64 { return &r.BareRatio },
		func(r *report) *float64 { return &r.SlotUse },
		func(r *report) *float64 { return &r.PickupMS.P50 },
		func(r *report) *float64 { return &r.PickupMS.P99 },
		func(r *report) *float64 { return &r.WALBytes },
		func(r *report) *float64 { return &r.CPUSeconds },
		func(r *report) *float64 { return &r.DatabaseCPU },
		func(r *report) *float64 { return &r.WaitingBytes },
		func(r *report) *float64 { return &r.WaitingCores },
		func(r *report) *float64 { return &r.SinglePerSecond },
		func(r *report) *float64 { return &r.SingleCPUSeconds },
		func(r *report) *float64 { return &r.ReplicasRatio },
	} {
		values := make([]float64, len(reports))
		for i := range reports {
			values[i] = *field(&reports[i])
		}
		slices.Sort(values)
		*field(&r) = values[len(values)/2]
	}
	return r
}
