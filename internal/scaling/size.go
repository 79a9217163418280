package scaling

import (
	"math"
	"time"
)

// Size is how large a cluster must be for a rate.
type Size struct {
	PerSecond   float64
	InFlight    float64 // calls
	Pods        int
	Dispatchers float64 // cores, together
	Postgres    float64 // cores
	WALBytes    float64 // a second
	Broker      float64 // cores of each server
}

// SizeFor returns what a rate of calls of such a latency takes, when each resource is
// used to a part of it that is at most load, from above 0 to 1: pods of so many cores
// and calls in flight, one NATS server, or three with three copies.
func SizeFor(c Costs, perSecond float64, latency time.Duration, podCores float64, inFlight int, replicated bool, load float64) Size {
	s := Size{PerSecond: perSecond, InFlight: perSecond * latency.Seconds(), WALBytes: perSecond * c.WALBytes}
	byCPU := perSecond * c.Consumer.Seconds() / (load * (podCores - c.PerPod.Consumer))
	bySlots := perSecond * (latency + c.Handover).Seconds() / (load * float64(inFlight))
	s.Pods = max(int(math.Ceil(max(byCPU, bySlots))), 1)
	pods := float64(s.Pods)
	s.Dispatchers = perSecond * c.Dispatcher.Seconds() / load
	s.Postgres = (perSecond*c.Postgres.Seconds() + pods*c.PerPod.Postgres) / load
	servers, copies := 1.0, 1.0
	if replicated {
		servers, copies = 3, c.Copies
	}
	s.Broker = (perSecond*copies*c.Broker.Seconds()/servers + pods*c.PerPod.Broker) / load
	return s
}
