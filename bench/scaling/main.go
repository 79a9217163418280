// Command scaling says what clusters of other sizes would do, by the model of
// internal/scaling and the costs that `make scaling UPDATE=1` measured:
//
//	go run ./bench/scaling
//	go run ./bench/scaling -latency 2s -in-flight 1000 -postgres-cores 32 10 100 1000
package main

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"fusillade/internal/scaling"
)

//go:embed costs.json
var measured []byte

//go:embed checked.json
var runs []byte

// defaults is a large cluster, to be asked how far so many consumers come.
func defaults() scaling.Cluster {
	return scaling.Cluster{
		Latency: 10 * time.Second, InFlight: podInFlight, PodCores: podCores, DispatcherCores: 2,
		PostgresCores: 16, WALPerSecond: 200e6, BrokerCores: 4, Shards: 8, Replicated: true,
	}
}

func main() {
	k := defaults()
	flag.DurationVar(&k.Latency, "latency", k.Latency, "of a call")
	flag.IntVar(&k.InFlight, "in-flight", k.InFlight, "calls in flight of a consumer: FUSILLADE_MAX_IN_FLIGHT")
	flag.IntVar(&k.Limit, "limit", 0, "calls in flight that the models take together; 0: any number")
	flag.Float64Var(&k.PodCores, "pod-cores", k.PodCores, "cores of a consumer")
	flag.Float64Var(&k.DispatcherCores, "dispatcher-cores", k.DispatcherCores, "cores of the dispatchers together")
	flag.Float64Var(&k.PostgresCores, "postgres-cores", k.PostgresCores, "cores of Postgres")
	flag.Float64Var(&k.WALPerSecond, "wal-per-second", k.WALPerSecond, "bytes a second that its disk takes")
	flag.Float64Var(&k.BrokerCores, "broker-cores", k.BrokerCores, "cores of a NATS server")
	flag.IntVar(&k.Shards, "shards", k.Shards, "streams: FUSILLADE_STREAM_SHARDS")
	flag.BoolVar(&k.Replicated, "replicated", k.Replicated, "three NATS servers, with everything three times")
	flag.Parse()
	if err := run(k, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "scaling:", err)
		os.Exit(1)
	}
}

func run(k scaling.Cluster, sizes []string) error {
	var costs scaling.Costs
	if err := json.Unmarshal(measured, &costs); err != nil {
		return fmt.Errorf("costs.json: %w", err)
	}
	if len(sizes) == 0 {
		sizes = []string{"10", "100", "1000"}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "pods\trequests/s\tin flight\tbound by\tthen by\tat\tPostgres\tNATS\tdispatchers\t")
	for _, size := range sizes {
		var err error
		if k.Pods, err = strconv.Atoi(size); err != nil {
			return fmt.Errorf("a number of pods is needed, not %q", size)
		}
		p, err := scaling.Predict(costs, k)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%d\t%.0f\t%.0f\t%s\t%s\t%.0f %%\t%.0f %%\t%.0f %%\t%.0f %%\t\n", k.Pods, p.PerSecond, p.InFlight, p.Bound,
			p.Next(), 100*p.Use[p.Next()], 100*p.Use[scaling.PostgresCPU], 100*p.Use[scaling.BrokerCPU], 100*p.Use[scaling.DispatchCPU])
	}
	return w.Flush()
}
