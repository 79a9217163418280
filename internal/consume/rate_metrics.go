package consume

import (
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/telemetry"
)

var (
	rateLimitDesc = prometheus.NewDesc(telemetry.Name("rate_limit"),
		"The model's rate limit for each minute, of requests and of tokens, in the whole cluster; every consumer reports the same.",
		[]string{"model", "unit"}, nil)
	rateUsedDesc = prometheus.NewDesc(telemetry.Name("rate_used"),
		"What the last minute has had of the rate limit, in the whole cluster, as this daemon saw it last.", []string{"model", "unit"}, nil)
	rateWaitingDesc = prometheus.NewDesc(telemetry.Name("rate_waiting"),
		"Requests in this daemon that are ready, and whose model or credential has a rate limit.", []string{"model"}, nil)
)

// rateStandings reports how each model with a rate limit stands, as it is asked.
type rateStandings struct{ c *Consumer }

// Describe implements prometheus.Collector.
func (s rateStandings) Describe(descs chan<- *prometheus.Desc) {
	descs <- rateLimitDesc
	descs <- rateUsedDesc
	descs <- rateWaitingDesc
}

// Collect implements prometheus.Collector.
func (s rateStandings) Collect(out chan<- prometheus.Metric) {
	type numbers struct{ limit, used, tokenLimit, tokensUsed, waiting int64 }
	all := make(map[string]numbers)
	for _, p := range s.c.openPools() {
		p.mu.Lock()
		rated, waiting := p.modelRate(), int64(0)
		for _, t := range p.ready {
			if rated != nil || t.credentialRate != nil {
				waiting++
			}
		}
		p.mu.Unlock()
		n, known := all[p.metrics.label]
		if rated != nil {
			now := rated.Standing()
			n.limit, n.used = n.limit+now.Limit.Requests, n.used+now.Used.Requests
			n.tokenLimit, n.tokensUsed = n.tokenLimit+now.Limit.Tokens, n.tokensUsed+now.Used.Tokens
		}
		if n.waiting += waiting; known || rated != nil || waiting > 0 {
			all[p.metrics.label] = n
		}
	}
	for model, n := range all {
		out <- prometheus.MustNewConstMetric(rateWaitingDesc, prometheus.GaugeValue, float64(n.waiting), model)
		if n.limit > 0 {
			out <- prometheus.MustNewConstMetric(rateLimitDesc, prometheus.GaugeValue, float64(n.limit), model, "requests")
			out <- prometheus.MustNewConstMetric(rateUsedDesc, prometheus.GaugeValue, float64(n.used), model, "requests")
		}
		if n.tokenLimit > 0 {
			out <- prometheus.MustNewConstMetric(rateLimitDesc, prometheus.GaugeValue, float64(n.tokenLimit), model, "tokens")
			out <- prometheus.MustNewConstMetric(rateUsedDesc, prometheus.GaugeValue, float64(n.tokensUsed), model, "tokens")
		}
	}
}
