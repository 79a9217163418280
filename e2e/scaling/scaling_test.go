//go:build scaling && linux

package scaling

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"fusillade/internal/scaling"
)

var update = flag.Bool("update", false, "write what was measured into bench/scaling")

const (
	costsFile = "../../bench/scaling/costs.json"
	runsFile  = "../../bench/scaling/checked.json"
	// tolerance is how far a prediction may be from what was measured. On one machine
	// the parts wait for one another's processors, which the model does not know.
	tolerance = 0.25
	idleTime  = 30 * time.Second
	// runsOfEach are made, and the median counts.
	runsOfEach = 3
	latency    = 250 * time.Millisecond
	inFlight   = 50
	// manyCalls are in flight, of all consumers together, where processors are to be
	// scarce: with a quarter of them some are left unused.
	manyCalls = 256
)

// What one consumer costs predicts what two and four do, where processors are
// scarce and where slots are.
func TestPredictions(t *testing.T) {
	costs := measure(t)
	if *update {
		write(t, costsFile, costs)
	}
	var runs []scaling.Run
	for _, pods := range []int{1, 2, 4} {
		runs = append(runs, check(t, costs, pods, manyCalls/pods, 0, 24000), check(t, costs, pods, inFlight, latency, 2000*pods))
	}
	if *update {
		write(t, runsFile, runs)
	}
}

func write(t *testing.T, path string, value any) {
	t.Helper()
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// measure takes the costs from runs with one consumer.
func measure(t *testing.T) (costs scaling.Costs) {
	busy := newCluster(t, 1, manyCalls, 0)
	busy.run(3000) // warms up
	f := busy.run(24000)
	n := time.Duration(f.requests)
	costs = scaling.Costs{
		Consumer: f.use.consumers / n, Dispatcher: f.use.dispatcher / n, Postgres: f.use.postgres / n, Broker: f.use.broker / n,
		Endpoint: f.use.endpoint / n, WALBytes: f.wal / float64(f.requests),
		// Measured elsewhere: docs/scaling.md has the sources.
		Copies: 3, ShardPerSecond: 25000,
	}
	one := busy.idle(idleTime)
	busy.stop()
	four := newCluster(t, 4, 64, 0)
	more := four.idle(idleTime)
	four.stop()
	part := func(four, one time.Duration) float64 { return max(four-one, 0).Seconds() / 3 / idleTime.Seconds() }
	costs.PerPod.Consumer = more.consumers.Seconds() / 4 / idleTime.Seconds()
	costs.PerPod.Postgres, costs.PerPod.Broker = part(more.postgres, one.postgres), part(more.broker, one.broker)

	slow := newCluster(t, 1, inFlight, latency)
	g := slow.run(2000)
	slow.stop()
	costs.Handover = max(time.Duration(float64(inFlight)/g.perSecond()*float64(time.Second))-latency, 0)
	return costs
}

func check(t *testing.T, costs scaling.Costs, pods, inFlight int, latency time.Duration, requests int) scaling.Run {
	c := newCluster(t, pods, inFlight, latency)
	defer c.stop()
	c.run(requests / 4) // warms up
	rates := make([]float64, runsOfEach)
	for i := range rates {
		rates[i] = c.run(requests).perSecond()
	}
	slices.Sort(rates)
	got := rates[runsOfEach/2]
	want, err := scaling.Predict(costs, scaling.Cluster{
		Pods: pods, InFlight: inFlight, Latency: latency, Shards: 8, SharedCores: float64(runtime.NumCPU()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("| %d | %d | %v | %.0f | %.0f | %s |", pods, inFlight, latency, got, want.PerSecond, want.Bound)
	if math.Abs(got/want.PerSecond-1) > tolerance {
		t.Errorf("%d consumers of %d calls of %v do %.0f requests a second: %.0f are predicted, bound by %s", pods, inFlight, latency, got, want.PerSecond, want.Bound)
	}
	return scaling.Run{Pods: pods, InFlight: inFlight, Latency: latency, PerSecond: math.Round(got), Predicted: math.Round(want.PerSecond), Bound: want.Bound}
}
