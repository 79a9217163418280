package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/telemetry"
	"fusillade/internal/upstream"
)

// maxHosts is how many hosts have labels of their own; the others share
// telemetry.OtherModels.
const maxHosts = 100

var (
	replicaInFlightDesc = prometheus.NewDesc(telemetry.Name("endpoint_requests_in_flight"),
		"Calls in flight in this daemon to one of several URLs of an endpoint, by its host.", []string{"host"}, nil)
	replicaEjectedDesc = prometheus.NewDesc(telemetry.Name("endpoint_ejected"),
		"1 while this daemon sends no calls to the host, but for a probe, because it failed or asked for a pause.", []string{"host"}, nil)
	replicaEjectionsDesc = prometheus.NewDesc(telemetry.Name("endpoint_ejections_total"),
		"Times that this daemon stopped sending calls to the host because they failed in a row.", []string{"host"}, nil)
)

// replicas reports how the URLs of endpoints stand that have several.
type replicas struct{ client *upstream.Client }

// Describe implements prometheus.Collector.
func (r replicas) Describe(descs chan<- *prometheus.Desc) {
	descs <- replicaInFlightDesc
	descs <- replicaEjectedDesc
	descs <- replicaEjectionsDesc
}

// Collect implements prometheus.Collector.
func (r replicas) Collect(out chan<- prometheus.Metric) {
	hosts := r.client.Replicas()
	for i := maxHosts; i < len(hosts); i++ {
		all := &hosts[maxHosts-1]
		all.Host = telemetry.OtherModels
		all.InFlight += hosts[i].InFlight
		all.Ejections += hosts[i].Ejections
		all.Ejected = all.Ejected || hosts[i].Ejected
	}
	for _, h := range hosts[:min(len(hosts), maxHosts)] {
		ejected := 0.0
		if h.Ejected {
			ejected = 1
		}
		out <- prometheus.MustNewConstMetric(replicaInFlightDesc, prometheus.GaugeValue, float64(h.InFlight), h.Host)
		out <- prometheus.MustNewConstMetric(replicaEjectedDesc, prometheus.GaugeValue, ejected, h.Host)
		out <- prometheus.MustNewConstMetric(replicaEjectionsDesc, prometheus.CounterValue, float64(h.Ejections), h.Host)
	}
}
