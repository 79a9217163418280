package scaling

import (
	"testing"
	"time"
)

// A cluster of the size that a rate takes does that rate, and none of its resources is
// used more than was asked for.
func TestSizeFor(t *testing.T) {
	t.Parallel()
	const load, inFlight = 0.7, 1000
	for _, latency := range []time.Duration{0, 2 * time.Second, time.Minute} {
		for _, replicated := range []bool{false, true} {
			for _, rate := range []float64{1, 100, 5000, 50000} {
				s := SizeFor(costs(), rate, latency, 1, inFlight, replicated, load)
				p, err := Predict(costs(), Cluster{
					Pods: s.Pods, PodCores: 1, InFlight: inFlight, Latency: latency,
					DispatcherCores: s.Dispatchers, PostgresCores: s.Postgres, BrokerCores: s.Broker, Shards: 1000, Replicated: replicated,
				})
				if err != nil {
					t.Fatal(err)
				}
				if use := rate / p.PerSecond; use > load*1.0001 {
					t.Errorf("%v, %.0f/s: %.2f of %s is used: %+v", latency, rate, use, p.Bound, s)
				}
			}
		}
	}
}
