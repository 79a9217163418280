package telemetry

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestWithFormerNames(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	Counters(reg, "requests_finished_total", "Requests that finished.", "status").WithLabelValues("failed").Add(3)
	Counter(reg, "other_total", "Something else.")
	want := `
# HELP fusillade_other_total Something else.
# TYPE fusillade_other_total counter
fusillade_other_total 0
# HELP fusillade_requests_completed_total Former name of fusillade_requests_finished_total.
# TYPE fusillade_requests_completed_total counter
fusillade_requests_completed_total{status="failed"} 3
# HELP fusillade_requests_finished_total Requests that finished.
# TYPE fusillade_requests_finished_total counter
fusillade_requests_finished_total{status="failed"} 3
`
	if err := testutil.GatherAndCompare(WithFormerNames(reg), strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
