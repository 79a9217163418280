package telemetry

import "github.com/prometheus/client_golang/prometheus"

var (
	// WriteSeconds are the buckets of statements and other short operations:
	// 0.5 ms to 33 s, which is beyond the timeout of one.
	WriteSeconds = prometheus.ExponentialBuckets(0.0005, 2, 17)
	// CallSeconds are the buckets of calls to model endpoints: 5 ms to 20 min.
	CallSeconds = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200}
	// Sizes are the buckets of what is done at once: 1 to 8192.
	Sizes = prometheus.ExponentialBuckets(1, 2, 14)
)
