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
			id, other := c.Begin(lines(10, testModel)), c.Begin(lines(2, otherModel))
			c.queued(10)
			hints, err := c.Conn.SubscribeSync("fusillade.hints.cancel.*")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Conn.Flush(); err != nil {
				t.Fatal(err)
			}
			c.spend(id)
			if tt.hint {
				c.Hint(streams.HintWork)
			}
			if hint, err := hints.NextMsg(patience); err != nil || hint.Subject != streams.HintCancel(id) || len(hint.Data) != 0 {
				t.Errorf("the hint after it is %+v, %v", hint, err)
			}
			until(t, "the batch has ended", func() bool { return c.get(id).Status == batch.StatusCancelled })
			if b := c.get(id); b.Counts.Canceled != 10 {
				t.Errorf("counts are %+v", b.Counts)
			}
			until(t, "its messages are gone", func() bool { return c.state().Msgs == 2 })
			if n := testutil.ToFloat64(d.metrics.overBudget); n != 10 {
				t.Errorf("%v requests are counted", n)
			}
			if b := c.get(other); b.Status.Terminal() {
				t.Errorf("another batch is %s", b.Status)
			}
		})
	}
}
