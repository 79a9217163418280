package dispatch

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

func TestMetricsOfTheLeader(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	m.escalated("gpt-4", "o1", 3)
	m.escalated("gpt-4", "o1", 2)
	m.purged(t.Context(), 1000, nil)
	m.purged(t.Context(), 7, errors.New("away"))
	stopped, stop := context.WithCancel(t.Context())
	stop()
	m.purged(stopped, 0, context.Canceled)
	m.released(5, 3, nil)
	m.released(4, 0, errors.New("away"))
	m.claimed(time.Now(), 10)
	m.claimed(time.Now(), 0)
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP fusillade_fenced_writes_total Writes that changed nothing, because the request had ended or has a newer owner.
# TYPE fusillade_fenced_writes_total counter
fusillade_fenced_writes_total{write="unclaim"} 2
# HELP fusillade_purge_errors_total Purges that failed and are tried again.
# TYPE fusillade_purge_errors_total counter
fusillade_purge_errors_total 1
# HELP fusillade_requests_routed_to_escalation_total Requests claimed for another model than their own, because their deadline is near.
# TYPE fusillade_requests_routed_to_escalation_total counter
fusillade_requests_routed_to_escalation_total{escalation_model="o1",original_model="gpt-4"} 5
# HELP fusillade_rows_purged_total Rows of deleted files and batches that were removed.
# TYPE fusillade_rows_purged_total counter
fusillade_rows_purged_total 1007
`), "fusillade_fenced_writes_total", "fusillade_purge_errors_total",
		"fusillade_requests_routed_to_escalation_total", "fusillade_rows_purged_total")
	if err != nil {
		t.Error(err)
	}
	if n := testutil.ToFloat64(m.lostReleases); n != 4 {
		t.Errorf("%v lost releases of claims are counted, want 4", n)
	}
	if n, err := testutil.GatherAndCount(reg, "fusillade_claim_size"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// depthOf is the queue of a model as a scrape shows it; -1: not at all.
func depthOf(t *testing.T, reg prometheus.Gatherer, model batch.Model, state batch.State) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "fusillade_queue_depth" {
			continue
		}
		for _, m := range f.GetMetric() {
			if labels := m.GetLabel(); labels[0].GetValue() == string(model) && labels[1].GetValue() == string(state) {
				return m.GetGauge().GetValue()
			}
		}
	}
	return -1
}

// Of several dispatchers one reports the queue: the leader, and another one
// after its end.
func TestTheLeaderReportsTheQueue(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Begin(lines(30, "m"))
	first, second := prometheus.NewRegistry(), prometheus.NewRegistry()
	_, stopFirst := c.start(func(cfg *Config) { cfg.Metrics = first })
	until(t, "the first reports", func() bool {
		return depthOf(t, first, "m", batch.Pending)+depthOf(t, first, "m", batch.Claimed) == 30
	})
	c.start(func(cfg *Config) { cfg.Metrics = second })
	if n := depthOf(t, second, "m", batch.Pending); n != -1 {
		t.Errorf("a dispatcher that does not lead reports %v pending", n)
	}
	stopFirst()
	if n, err := testutil.GatherAndCount(first, "fusillade_queue_depth"); n != 0 || err != nil {
		t.Errorf("a dispatcher that has ended reports %d queues, %v", n, err)
	}
	until(t, "the second reports", func() bool {
		return depthOf(t, second, "m", batch.Pending)+depthOf(t, second, "m", batch.Claimed) == 30
	})
}

// A queue that is gone is shown empty, not as it was last.
func TestQueueThatIsGone(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	reg.MustRegister(&m.queue)
	m.show([]postgres.Depth{{Model: "a", Pending: 5, Oldest: time.Minute}, {Model: "b", Claimed: 2, Processing: 1}})
	m.show([]postgres.Depth{{Model: "b", Claimed: 1, Processing: 1}})
	got := map[string]float64{}
	for model, states := range map[batch.Model][]batch.State{"a": {batch.Pending}, "b": {batch.Claimed, batch.Processing}} {
		for _, state := range states {
			got[string(model)+" "+string(state)] = depthOf(t, reg, model, state)
		}
	}
	if diff := cmp.Diff(map[string]float64{"a pending": 0, "b claimed": 1, "b processing": 1}, got); diff != "" {
		t.Errorf("queues (-want +got):\n%s", diff)
	}
}

// What the broker refuses is counted, and so is a hint that cannot be read.
func TestDispatcherCountsDrops(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d, _ := c.start()
	until(t, "a hint is counted", func() bool {
		c.Hint("fusillade.hints.drained.=zz") // again, until the dispatcher listens
		return testutil.ToFloat64(d.metrics.lostHints) > 0
	})
	cfg := c.Stream.CachedInfo().Config
	cfg.MaxMsgs = 1
	c.update(cfg)
	c.Begin(lines(3, "m"))
	until(t, "the publishes are counted", func() bool { return testutil.ToFloat64(d.metrics.lostPublishes) >= 2 })
}

// Who leads no more shows nothing of what it saw as the leader.
func TestQueueOfAFormerLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Exec(`UPDATE batches SET budget_tokens = 500 WHERE id = $1`, [16]byte(c.Begin(lines(7, "m"))))
	reg := prometheus.NewRegistry()
	d, err := New(t.Context(), Config{
		Store: c.Store, Conn: c.Conn, Streams: described, ClaimBatchSize: 1, ClaimInterval: never, DefaultLimit: 1,
		Lease: never, ClaimTimeout: never, ProcessingTimeout: never, StaleThreshold: never, Metrics: reg, Log: testenv.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	reg.MustRegister(&d.metrics.queue)
	err = d.withQueueGauges(func(context.Context) error {
		until(t, "the queue is reported", func() bool { return depthOf(t, reg, "m", batch.Pending) == 7 })
		until(t, "the budget is reported", func() bool {
			return testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP fusillade_budget_limit Budgets of batches in progress, added up: in tokens, and in money (unit cost); reported by the leading dispatcher.
# TYPE fusillade_budget_limit gauge
fusillade_budget_limit{unit="cost"} 0
fusillade_budget_limit{unit="tokens"} 500
`), "fusillade_budget_limit") == nil
		})
		return nil
	})(t.Context())
	if err != nil {
		t.Error(err)
	}
	if n := depthOf(t, reg, "m", batch.Pending); n != -1 {
		t.Errorf("a former leader reports %v pending", n)
	}
	if n, err := testutil.GatherAndCount(reg, "fusillade_budget_limit", "fusillade_budget_used"); n != 0 || err != nil {
		t.Errorf("a former leader reports %d budgets, %v", n, err)
	}
}
