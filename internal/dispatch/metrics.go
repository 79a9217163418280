package dispatch

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

// metrics is what a dispatcher measures. It outlives the dispatcher: the next
// one in the process with the same registerer goes on with it.
type metrics struct {
	claimTime, claimSize, sweepTime        prometheus.Histogram
	escalations                            *prometheus.CounterVec
	purgedRows, purgeErrors, overBudget    prometheus.Counter
	reclaims                               *prometheus.CounterVec
	fencedReleases                         prometheus.Counter
	lostHints, lostPublishes, lostReleases prometheus.Counter

	models telemetry.Models
	queue  queueGauges
}

func newMetrics(reg prometheus.Registerer) *metrics {
	drops := telemetry.Drops(reg)
	return &metrics{
		claimTime: telemetry.Histogram(reg, "claim_duration_seconds", "Time of a statement that claims requests.", telemetry.WriteSeconds),
		claimSize: telemetry.Histogram(reg, "claim_size", "Requests claimed by one statement that found some.", telemetry.Sizes),
		sweepTime: telemetry.Histogram(reg, "sweep_duration_seconds",
			"Time of the leader's look for requests that should have moved on, with their look-up in the stream.", telemetry.WriteSeconds),
		escalations: telemetry.Counters(reg, "requests_routed_to_escalation_total",
			"Requests claimed for another model than their own, because their deadline is near.", "original_model", "escalation_model"),
		purgedRows:     telemetry.Counter(reg, "rows_purged_total", "Rows of deleted files and batches that were removed."),
		purgeErrors:    telemetry.Counter(reg, "purge_errors_total", "Purges that failed and are tried again."),
		overBudget:     telemetry.Counter(reg, "budget_canceled_requests_total", "Requests canceled because the budget of their batch was spent."),
		fencedReleases: telemetry.FencedWrites(reg).WithLabelValues(telemetry.FencedClaimRelease),
		reclaims:       telemetry.Reclaimed(reg),
		lostHints:      drops.WithLabelValues(telemetry.DroppedHint),
		lostPublishes:  drops.WithLabelValues(telemetry.DroppedPublish),
		lostReleases:   drops.WithLabelValues(telemetry.DroppedClaimRelease),
	}
}

// claimed notes a claim that was committed.
func (m *metrics) claimed(began time.Time, n int) {
	m.claimTime.Observe(time.Since(began).Seconds())
	if n > 0 {
		m.claimSize.Observe(float64(n))
	}
}

// routed counts those of the claimed requests that name another model than the
// one they were claimed for.
func (m *metrics) routed(to batch.Model, claimed []postgres.ClaimedRequest) {
	for _, r := range claimed {
		if r.From != "" {
			m.escalated(r.From, to, 1)
		}
	}
}

// escalated counts requests that were claimed for another model than theirs.
func (m *metrics) escalated(original, to batch.Model, n int) {
	m.escalations.WithLabelValues(m.models.Label(original), m.models.Label(to)).Add(float64(n))
}

// purged notes one delete of a purge: the rows that it removed, or its error.
// What a stop interrupts is no error.
func (m *metrics) purged(ctx context.Context, rows int, err error) {
	m.purgedRows.Add(float64(rows))
	if err != nil && ctx.Err() == nil {
		m.purgeErrors.Inc()
	}
}

// released notes a release of so many requests and how many it returned. The
// others had moved on by themselves.
func (m *metrics) released(requests, returned int, err error) {
	if err != nil {
		m.lostReleases.Add(float64(requests))
		return
	}
	m.fencedReleases.Add(float64(requests - returned))
}

// reclaimed counts requests that were returned to pending for the cause.
func (m *metrics) reclaimed(cause string, n int) {
	m.reclaims.WithLabelValues(cause).Add(float64(n))
}

// swept notes the end of a sweep that began then.
func (m *metrics) swept(began time.Time) { m.sweepTime.Observe(time.Since(began).Seconds()) }
