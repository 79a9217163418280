package callback

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/telemetry"
)

type metrics struct {
	calls   *prometheus.CounterVec
	time    *prometheus.HistogramVec
	waiting prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		calls: telemetry.Counters(reg, "callbacks_total",
			"Calls of the program, by callback (on_result, on_result_tx) and outcome (called, failed); what failed is called again.", "callback", "outcome"),
		time: telemetry.Histograms(reg, "callback_duration_seconds", "Time of a call of the program.", telemetry.CallSeconds, "callback"),
		waiting: telemetry.Register(reg, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: telemetry.Name("callbacks_waiting"), Help: "Results of which this process has yet to call the program, or to record that it did.",
		})),
	}
}

func (m *metrics) called(inTx bool, began time.Time, err error) {
	callback, outcome := "on_result", "called"
	if inTx {
		callback = "on_result_tx"
	}
	if err != nil {
		outcome = "failed"
	}
	m.calls.WithLabelValues(callback, outcome).Inc()
	m.time.WithLabelValues(callback).Observe(time.Since(began).Seconds())
}
