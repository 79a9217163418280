package telemetry

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Namespace is the prefix of every metric, without the underscore.
const Namespace = "fusillade"

// Name is the full name of a metric.
func Name(short string) string { return Namespace + "_" + short }

// Register registers c, or returns the collector that was registered before
// under the same name with the same labels and help: a daemon that begins
// again in its process goes on counting where the last one stopped. It returns
// c itself if reg is nil. It panics if the name has another meaning already,
// which is a mistake in the program.
func Register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic(fmt.Sprintf("metric: %v", err))
	}
	return c
}

// Counter registers a counter.
func Counter(reg prometheus.Registerer, short, help string) prometheus.Counter {
	return Register(reg, prometheus.NewCounter(prometheus.CounterOpts{Name: Name(short), Help: help}))
}

// Counters registers a counter with labels.
func Counters(reg prometheus.Registerer, short, help string, labels ...string) *prometheus.CounterVec {
	return Register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: Name(short), Help: help}, labels))
}

// Histogram registers a histogram.
func Histogram(reg prometheus.Registerer, short, help string, buckets []float64) prometheus.Histogram {
	return Register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{Name: Name(short), Help: help, Buckets: buckets}))
}

// Histograms registers a histogram with labels.
func Histograms(reg prometheus.Registerer, short, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return Register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: Name(short), Help: help, Buckets: buckets}, labels))
}

// Attach registers a collector that reads what it reports from its owner, and
// returns how to take it off again when the owner ends.
func Attach(reg prometheus.Registerer, c prometheus.Collector) (detach func()) {
	if reg == nil {
		return func() {}
	}
	reg.MustRegister(c)
	return func() { reg.Unregister(c) }
}
