package slots

import (
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
	"fusillade/internal/telemetry"
)

// measured is what a keeper measures of the limits that it decides about.
type measured struct {
	decisions *prometheus.CounterVec
	rates     *prometheus.GaugeVec
	models    telemetry.Models
}

func newMeasured(reg prometheus.Registerer) *measured {
	return &measured{
		decisions: telemetry.Counters(reg, "limit_decisions_total",
			"Changes of automatic limits that this daemon decided, by cause.", "model", "cause"),
		rates: telemetry.Register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: telemetry.Name("limit_throughput"),
			Help: "Completed work per second of a model with an automatic limit, in the whole cluster, by unit: calls or tokens; reported by the daemon that decides about it.",
		}, []string{"model", "unit"})),
	}
}

func (m *measured) decision(model batch.Model, cause adaptive.Cause) {
	m.decisions.WithLabelValues(m.models.Label(model), string(cause)).Inc()
}

func (m *measured) throughput(model batch.Model, of *decider) {
	label := m.models.Label(model)
	m.rates.WithLabelValues(label, "calls").Set(of.calls)
	m.rates.WithLabelValues(label, "tokens").Set(of.tokens)
}

// forget drops what another daemon reports now.
func (m *measured) forget(model batch.Model) {
	m.rates.DeletePartialMatch(prometheus.Labels{"model": m.models.Label(model)})
}
