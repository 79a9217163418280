package daemon

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/telemetry"
)

// metrics outlive a daemon: the next one in the process goes on with them.
type metrics struct {
	failures prometheus.Counter
	duration prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	return &metrics{
		failures: telemetry.Counter(reg, "heartbeat_failures_total", "Heartbeats that failed; each is tried again until the daemon must stop."),
		duration: telemetry.Histogram(reg, "heartbeat_duration_seconds", "Time of a heartbeat into Postgres and NATS that succeeded.", telemetry.WriteSeconds),
	}
}

// renewed notes a heartbeat that began then. What the end of ctx interrupts is
// no failure.
func (m *metrics) renewed(ctx context.Context, began time.Time, err error) {
	switch {
	case err == nil:
		m.duration.Observe(time.Since(began).Seconds())
	case ctx.Err() == nil:
		m.failures.Inc()
	}
}
