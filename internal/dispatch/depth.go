package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
)

// queueInterval is how often the leader looks how long the queue is. A scrape
// shows what was seen last and asks nobody.
const queueInterval = 5 * time.Second

var (
	depthDesc = prometheus.NewDesc(telemetry.Name("queue_depth"),
		"Requests that have not ended, by state; reported by the leading dispatcher.", []string{"model", "state"}, nil)
	oldestDesc = prometheus.NewDesc(telemetry.Name("oldest_pending_seconds"),
		"Age of the oldest batch with requests that were never claimed, or time since the longest due was due, whichever is more; reported by the leading dispatcher.",
		[]string{"model"}, nil)
	budgetLimitDesc = prometheus.NewDesc(telemetry.Name("budget_limit"),
		"Budgets of batches in progress, added up: in tokens, and in money (unit cost); reported by the leading dispatcher.", []string{"unit"}, nil)
	budgetUsedDesc = prometheus.NewDesc(telemetry.Name("budget_used"),
		"What these batches have used of their budgets, which may be more; reported by the leading dispatcher.", []string{"unit"}, nil)
)

// queueGauges report what the leader saw last; nothing by a dispatcher that does
// not lead, so that the cluster's numbers are reported once.
type queueGauges struct {
	seen    atomic.Pointer[map[string]modelQueue] // by the model's label
	budgets atomic.Pointer[postgres.OpenBudgets]
}

// modelQueue is the queue of all models with one label.
type modelQueue struct {
	pending, claimed, processing int64
	oldest                       time.Duration
}

// Describe implements prometheus.Collector.
func (q *queueGauges) Describe(descs chan<- *prometheus.Desc) {
	descs <- depthDesc
	descs <- oldestDesc
	descs <- budgetLimitDesc
	descs <- budgetUsedDesc
}

// Collect implements prometheus.Collector.
func (q *queueGauges) Collect(out chan<- prometheus.Metric) {
	if b := q.budgets.Load(); b != nil {
		for unit, of := range map[string]postgres.BudgetUse{"tokens": b.Tokens, "cost": b.Cost} {
			out <- prometheus.MustNewConstMetric(budgetLimitDesc, prometheus.GaugeValue, of.Limit, unit)
			out <- prometheus.MustNewConstMetric(budgetUsedDesc, prometheus.GaugeValue, of.Used, unit)
		}
	}
	seen := q.seen.Load()
	if seen == nil {
		return
	}
	for model, m := range *seen {
		for state, n := range map[batch.State]int64{batch.Pending: m.pending, batch.Claimed: m.claimed, batch.Processing: m.processing} {
			out <- prometheus.MustNewConstMetric(depthDesc, prometheus.GaugeValue, float64(n), model, string(state))
		}
		out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, m.oldest.Seconds(), model)
	}
}

// show takes over what was seen. A model that was seen before and is not any
// more stays, with an empty queue.
func (m *metrics) show(depths []postgres.Depth) {
	next := make(map[string]modelQueue)
	if last := m.queue.seen.Load(); last != nil {
		for label := range *last {
			next[label] = modelQueue{}
		}
	}
	for _, d := range depths {
		label := m.models.Label(d.Model)
		q := next[label]
		next[label] = modelQueue{
			pending: q.pending + d.Pending, claimed: q.claimed + d.Claimed, processing: q.processing + d.Processing,
			oldest: max(q.oldest, d.Oldest),
		}
	}
	m.queue.seen.Store(&next)
}

// withQueueGauges does the leader's work, and watches the queue meanwhile.
func (d *Dispatcher) withQueueGauges(lead func(context.Context) error) func(context.Context) error {
	if d.cfg.Metrics == nil {
		return lead
	}
	return func(ctx context.Context) error {
		ctx, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() { d.watchQueue(ctx) })
		defer watching.Wait()
		defer stop()
		return lead(ctx)
	}
}

func (d *Dispatcher) watchQueue(ctx context.Context) {
	defer func() { // another one leads
		d.metrics.queue.seen.Store(nil)
		d.metrics.queue.budgets.Store(nil)
	}()
	for {
		if err := d.measureQueue(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("the queue could not be measured", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff.Jitter(queueInterval)):
		}
	}
}

func (d *Dispatcher) measureQueue(ctx context.Context) error {
	depths, err := d.cfg.Store.QueueDepths(ctx)
	if err != nil {
		return err
	}
	budgets, err := d.cfg.Store.OpenBudgets(ctx)
	if err != nil {
		return err
	}
	d.metrics.show(depths)
	d.metrics.queue.budgets.Store(&budgets)
	return nil
}
