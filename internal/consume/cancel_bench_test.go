package consume

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/dispatch"
)

// BenchmarkCancel measures the time from the beginning of a cancel's
// transaction until the endpoint sees its client gone, while another model's
// requests pass through the same consumer as fast as they can. Run it with
// -benchtime=200x.
func BenchmarkCancel(b *testing.B) {
	const load = 200_000
	c := newCluster(b, limits(map[batch.Model]batch.Limit{otherModel: 16, testModel: 8}), func(cfg *dispatch.Config) { cfg.Log = discard() })
	called, gone := make(chan struct{}), make(chan time.Time)
	c.endpoint.set(func(_ http.ResponseWriter, r *http.Request, call call) {
		if call.model == string(testModel) {
			called <- struct{}{}
			<-r.Context().Done()
			gone <- time.Now()
		}
	})
	r := c.start(neverPoll, func(cfg *Config) { cfg.Log = discard() })
	background := c.Begin(lines(load, otherModel))
	until(b, "the load is under way", func() bool { return r.Stats().Completed > 100 })
	var took []time.Duration
	before := r.Stats().Completed
	for b.Loop() {
		id := c.Begin(lines(1, testModel))
		<-called
		began := time.Now()
		c.cancel(id)
		c.hint(id)
		took = append(took, (<-gone).Sub(began))
	}
	b.ReportMetric(float64(r.Stats().Completed-before)/b.Elapsed().Seconds(), "load/s")
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	if c.Batch(background).Counts.Done() == load {
		b.Log("the load ended before the measurement did")
	}
	c.cancel(background)
	c.hint(background)
}
