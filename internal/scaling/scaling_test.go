package scaling

import (
	"math"
	"testing"
	"time"
)

func costs() Costs {
	return Costs{
		Consumer: 100 * time.Microsecond, Dispatcher: 20 * time.Microsecond, Postgres: 80 * time.Microsecond, Broker: 20 * time.Microsecond,
		PerPod: PodCosts{Consumer: 0.01, Postgres: 0.001, Broker: 0.002}, WALBytes: 1000, Copies: 3, ShardPerSecond: 20000,
	}
}

func TestPredict(t *testing.T) {
	large := Cluster{
		Pods: 10, PodCores: 2, InFlight: 1000, Latency: 10 * time.Second,
		DispatcherCores: 4, PostgresCores: 16, BrokerCores: 4, Shards: 8,
	}
	for name, test := range map[string]struct {
		change    func(*Cluster)
		perSecond float64
		bound     string
	}{
		"slots of the pods":  {func(*Cluster) {}, 1000, PodSlots},
		"limit of the model": {func(k *Cluster) { k.Limit = 500 }, 50, Slots},
		"CPU of the pods":    {func(k *Cluster) { k.Latency = 0; k.InFlight = 1e9; k.PodCores = 0.11 }, 10000, PodCPU},
		"Postgres": {func(k *Cluster) {
			k.Latency = 10 * time.Millisecond
			k.Pods = 1000
			k.DispatcherCores = 100
			k.BrokerCores = 100
			k.Shards = 100
		},
			(16 - 1) / 80e-6, PostgresCPU},
		"the disk of the WAL": {func(k *Cluster) { k.Latency = time.Millisecond; k.WALPerSecond = 5e6 }, 5000, PostgresWAL},
		"the broker's streams": {func(k *Cluster) {
			k.Latency, k.Pods, k.DispatcherCores, k.PostgresCores, k.BrokerCores, k.Shards = time.Millisecond, 100, 100, 100, 100, 1
		}, 20000, BrokerWrite},
		"three copies on three servers": {func(k *Cluster) {
			k.Latency, k.Pods, k.DispatcherCores, k.PostgresCores, k.BrokerCores, k.Shards, k.Replicated = time.Millisecond, 500, 100, 100, 2, 100, true
		}, 3 * (2 - 500*0.002) / 60e-6, BrokerCPU},
		"one machine": {func(k *Cluster) { k.Latency = time.Millisecond; k.SharedCores = 2 }, (2 - 10*0.013) / 220e-6, Machine},
	} {
		t.Run(name, func(t *testing.T) {
			k := large
			test.change(&k)
			got, err := Predict(costs(), k)
			if err != nil {
				t.Fatal(err)
			}
			if got.Bound != test.bound || math.Abs(got.PerSecond-test.perSecond) > 1 {
				t.Errorf("%.0f/s, bound by %s; want %.0f/s by %s", got.PerSecond, got.Bound, test.perSecond, test.bound)
			}
			if use := got.Use[got.Bound]; math.Abs(use-1) > 1e-9 {
				t.Errorf("%.2f of %s is used: it is not the bound", use, got.Bound)
			}
			if next := got.Next(); next == got.Bound || got.Use[next] > 1 {
				t.Errorf("next is %q", next)
			}
		})
	}
}

func TestPredictNothing(t *testing.T) {
	if _, err := Predict(costs(), Cluster{}); err == nil {
		t.Error("a cluster of nothing is predicted")
	}
}
