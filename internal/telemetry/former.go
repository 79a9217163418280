package telemetry

import (
	"cmp"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// formerNames are metrics that had another name in the last release, whose
// dashboards and alerts still ask for it. CHANGELOG.md lists them.
var formerNames = map[string]string{
	Name("requests_finished_total"):                Name("requests_completed_total"),
	Name("requests_finished_after_deadline_total"): Name("requests_completed_after_sla_total"),
	Name("sweep_duration_seconds"):                 Name("unclaim_stale_duration_seconds"),
}

// WithFormerNames shows metrics that have a new name under their former one
// too, with the same values.
func WithFormerNames(metrics prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := metrics.Gather()
		for _, family := range families {
			if former, ok := formerNames[family.GetName()]; ok {
				help := "Former name of " + family.GetName() + "."
				families = append(families, &dto.MetricFamily{Name: &former, Help: &help, Type: family.Type, Metric: family.Metric})
			}
		}
		slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
		return families, err
	})
}
