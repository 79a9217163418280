package dispatch

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// spend gives a batch a budget that is spent.
func (c *cluster) spend(id batch.ID) {
	c.Exec(`UPDATE batches SET budget_tokens = 1, budget_exceeded_at = now() WHERE id = $1`, [16]byte(id))
}

// What exceeds a budget ends, in Postgres and in the stream: at once after a hint, and
// after an interval without one, as a process that died in between leaves it.
func TestLeaderEndsBudgets(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		interval time.Duration
		hint     bool
	}{
		"after a hint": {time.Hour, true},
		"without one":  {20 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			d, _ := c.start(func(cfg *Config) { cfg.ExpiryInterval = tt.interval })
			c.checkEnds(batch.StatusCancelled, func(c batch.Counts) int64 { return c.Canceled }, func(id batch.ID) {
				c.spend(id)
				if tt.hint {
					c.Hint(streams.HintWork)
				}
			})
			if n := testutil.ToFloat64(d.metrics.overBudget); n != 10 {
				t.Errorf("%v requests are counted", n)
			}
		})
	}
}
