// Package scaling says how much a cluster does, from what one request costs each of
// its parts. It is a bound, not a simulation: each resource can do no more than its
// processors, connections or slots allow, and the scarcest one decides.
package scaling

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Costs are what a request costs, and what a consumer costs that has nothing to do.
// They are measured by `make scaling`.
type Costs struct {
	// CPU time of one request.
	Consumer   time.Duration `json:"consumer_cpu_ns"`
	Dispatcher time.Duration `json:"dispatcher_cpu_ns"`
	Postgres   time.Duration `json:"postgres_cpu_ns"`
	Broker     time.Duration `json:"broker_cpu_ns"`
	// Endpoint is what the mock endpoint takes of a request where it shares the
	// machine with all the rest; 0: it is elsewhere.
	Endpoint time.Duration `json:"endpoint_cpu_ns"`
	// PerPod is what one idle consumer takes of processors: heartbeats, requests for
	// messages, the slots that it watches.
	PerPod PodCosts `json:"idle_pod"`
	// WALBytes of a request.
	WALBytes float64 `json:"wal_bytes"`
	// Handover is the time between the end of a call and the start of the next one in
	// its slot.
	Handover time.Duration `json:"handover_ns"`
	// Copies is by how much the broker's cost grows with three copies of everything.
	Copies float64 `json:"copies_factor"`
	// ShardPerSecond is how many requests one stream of the broker passes on: its
	// messages are written one after the other.
	ShardPerSecond float64 `json:"shard_requests_per_second"`
}

// PodCosts are parts of a core, each of the machine named.
type PodCosts struct {
	Consumer float64 `json:"consumer_cores"`
	Postgres float64 `json:"postgres_cores"`
	Broker   float64 `json:"broker_cores"`
}

// Run is a run that a prediction was held to, as `make scaling` writes it.
type Run struct {
	Pods      int           `json:"pods"`
	InFlight  int           `json:"in_flight"`
	Latency   time.Duration `json:"latency_ns"`
	PerSecond float64       `json:"requests_per_second"`
	Predicted float64       `json:"predicted_requests_per_second"`
	Bound     string        `json:"bound"`
}

// Cluster is a set of machines and the work that they have.
type Cluster struct {
	Pods     int           // consumers
	PodCores float64       // of each
	InFlight int           // calls of each at most: FUSILLADE_MAX_IN_FLIGHT
	Limit    int           // calls of all models together at most; 0: no limit
	Latency  time.Duration // of a call

	DispatcherCores float64 // of the dispatchers that have models, together
	PostgresCores   float64
	WALPerSecond    float64 // bytes that its disk takes; 0: any number
	BrokerCores     float64 // of one server
	Shards          int     // FUSILLADE_STREAM_SHARDS
	Replicated      bool    // three servers, each with everything

	// SharedCores is set where all of it, and the endpoint, runs on one machine with
	// so many cores. The cores above don't count then.
	SharedCores float64
}

// Prediction is what a cluster does.
type Prediction struct {
	PerSecond float64 // requests
	Bound     string  // the resource that allows no more
	InFlight  float64 // calls at that rate
	// Use is how much of each resource that rate takes: 1 is all of it.
	Use map[string]float64
}

// Next is the resource that would bound it if there were enough of the first.
func (p Prediction) Next() string {
	names := slices.SortedFunc(maps.Keys(p.Use), func(a, b string) int {
		switch {
		case p.Use[a] > p.Use[b]:
			return -1
		case p.Use[a] < p.Use[b]:
			return 1
		}
		return 0
	})
	for _, name := range names {
		if name != p.Bound {
			return name
		}
	}
	return ""
}

// Names of resources.
const (
	Slots       = "slots"         // calls that the models take
	PodSlots    = "pods' slots"   // calls that the consumers take
	PodCPU      = "pods' CPU"     //
	DispatchCPU = "dispatchers"   //
	PostgresCPU = "Postgres CPU"  //
	PostgresWAL = "Postgres WAL"  //
	BrokerCPU   = "NATS CPU"      //
	BrokerWrite = "NATS streams"  // one writer each
	Machine     = "the machine's" // shared cores
)

// Predict returns what a cluster does with these costs. It returns an error for a
// cluster that is none.
func Predict(c Costs, k Cluster) (Prediction, error) {
	if k.Pods < 1 || k.InFlight < 1 || k.Latency < 0 || k.Shards < 1 {
		return Prediction{}, fmt.Errorf("a cluster needs pods, calls in flight and shards: %+v", k)
	}
	most := map[string]float64{} // requests a second
	turn := (k.Latency + c.Handover).Seconds()
	pods := float64(k.Pods)
	most[PodSlots] = pods * float64(k.InFlight) / turn
	if k.Limit > 0 {
		most[Slots] = float64(k.Limit) / turn
	}
	copies := 1.0
	if k.Replicated {
		copies = c.Copies
	}
	broker := copies * c.Broker.Seconds()
	if k.SharedCores > 0 {
		each := c.Consumer.Seconds() + c.Dispatcher.Seconds() + c.Postgres.Seconds() + broker + c.Endpoint.Seconds()
		idle := pods * (c.PerPod.Consumer + c.PerPod.Postgres + copies*c.PerPod.Broker)
		most[Machine] = left(k.SharedCores, idle) / each
	} else {
		most[PodCPU] = pods * left(k.PodCores, c.PerPod.Consumer) / c.Consumer.Seconds()
		most[DispatchCPU] = k.DispatcherCores / c.Dispatcher.Seconds()
		most[PostgresCPU] = left(k.PostgresCores, pods*c.PerPod.Postgres) / c.Postgres.Seconds()
		// Three servers share what three copies cost.
		servers := 1.0
		if k.Replicated {
			servers = 3
		}
		most[BrokerCPU] = servers * left(k.BrokerCores, pods*c.PerPod.Broker) / broker
	}
	if k.WALPerSecond > 0 {
		most[PostgresWAL] = k.WALPerSecond / c.WALBytes
	}
	if c.ShardPerSecond > 0 {
		most[BrokerWrite] = float64(k.Shards) * c.ShardPerSecond / copies
	}
	p := Prediction{Use: map[string]float64{}}
	for name, rate := range most {
		if p.Bound == "" || rate < p.PerSecond {
			p.Bound, p.PerSecond = name, rate
		}
	}
	for name, rate := range most {
		p.Use[name] = 1
		if rate > 0 {
			p.Use[name] = p.PerSecond / rate
		}
	}
	p.InFlight = p.PerSecond * k.Latency.Seconds()
	return p, nil
}

// left is what idle pods leave of some cores.
func left(cores, idle float64) float64 { return max(cores-idle, 0) }
