package consume

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

// measuredStore measures the flushes that a store answers.
type measuredStore struct {
	store
	m *metrics
}

func (s measuredStore) Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error) {
	began := time.Now()
	starts, err := s.store.Start(ctx, rules, deliveries)
	if err != nil {
		return nil, err
	}
	s.m.startTime.Observe(time.Since(began).Seconds())
	s.m.startSize.Observe(float64(len(deliveries)))
	stale := 0
	for i := range starts {
		if starts[i].Verdict == postgres.Stale {
			stale++
		}
	}
	if stale > 0 {
		s.m.fenced.WithLabelValues(telemetry.FencedStart).Add(float64(stale))
	}
	return starts, nil
}

func (s measuredStore) Finish(ctx context.Context, daemon batch.DaemonID, completions []postgres.Completion, releases []postgres.Release) (map[batch.RequestID]bool, error) {
	began := time.Now()
	written, err := s.store.Finish(ctx, daemon, completions, releases)
	if err != nil {
		return nil, err
	}
	s.m.finishing.Observe(time.Since(began).Seconds())
	s.m.resultSize.Observe(float64(len(completions) + len(releases)))
	return written, nil
}

var (
	inFlightDesc = prometheus.NewDesc(telemetry.Name("requests_in_flight"), "Calls in flight in this daemon.", []string{"model"}, nil)
	limitDesc    = prometheus.NewDesc(telemetry.Name("model_limit"),
		"The model's concurrency limit in the whole cluster; every consumer reports the same.", []string{"model"}, nil)
	heldDesc = prometheus.NewDesc(telemetry.Name("slots_held"), "Slots that this daemon holds of the limit.", []string{"model"}, nil)
	holdDesc = prometheus.NewDesc(telemetry.Name("hold_remaining_seconds"),
		"How long the key that the model is called with is held back at the endpoint's request; every consumer reports the same. Batches' own keys are not among it.", []string{"model"}, nil)
	refusalsDesc = prometheus.NewDesc(telemetry.Name("refusals_held"),
		"Holds because an endpoint refuses every call to the model, by cause; more than 1 with single batches or owners held. Every consumer reports the same.",
		[]string{"model", "cause"}, nil)
	holdsDesc = prometheus.NewDesc(telemetry.Name("batches_held"),
		"Batches whose own key is held back at an endpoint's request; every consumer reports the same.", []string{"model"}, nil)
)

// standings reports how each model stands, as it is asked: nothing is counted
// for it on the way of a request.
type standings struct{ c *Consumer }

// Describe implements prometheus.Collector.
func (s standings) Describe(descs chan<- *prometheus.Desc) {
	descs <- inFlightDesc
	descs <- limitDesc
	descs <- heldDesc
	descs <- holdDesc
	descs <- holdsDesc
	descs <- refusalsDesc
}

// Collect implements prometheus.Collector.
func (s standings) Collect(out chan<- prometheus.Metric) {
	type numbers struct {
		inFlight, limit, held, batches int
		hold                           time.Duration
	}
	holds := s.c.holds.Holds()
	all := make(map[string]numbers)
	type cause struct{ model, cause string }
	refusals := make(map[cause]int)
	for _, p := range s.c.openPools() {
		now := p.account.Standing()
		n := all[p.metrics.label]
		n.inFlight, n.limit, n.held = n.inFlight+now.InUse, n.limit+now.Limit, n.held+now.Held
		for _, h := range holds {
			switch {
			case !slices.Contains(h.Models, p.account.Model()):
			case h.Cause != "":
				refusals[cause{p.metrics.label, string(h.Cause.Info().Cause)}]++
			case h.Batch == batch.ID{}:
				n.hold = max(n.hold, time.Until(h.Until))
			default:
				n.batches++
			}
		}
		all[p.metrics.label] = n
	}
	for of, n := range refusals {
		out <- prometheus.MustNewConstMetric(refusalsDesc, prometheus.GaugeValue, float64(n), of.model, of.cause)
	}
	for model, n := range all {
		out <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(n.inFlight), model)
		out <- prometheus.MustNewConstMetric(limitDesc, prometheus.GaugeValue, float64(n.limit), model)
		out <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(n.held), model)
		out <- prometheus.MustNewConstMetric(holdDesc, prometheus.GaugeValue, n.hold.Seconds(), model)
		out <- prometheus.MustNewConstMetric(holdsDesc, prometheus.GaugeValue, float64(n.batches), model)
	}
}
