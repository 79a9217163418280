package consume

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"fusillade/internal/batch"
)

// statusModels bounds the models that one line names: the busiest ones.
const statusModels = 20

// status is what a line of the status log says, but for the rate.
type status struct{ inFlight, completed, failed, retried int64 }

// logStatus says every StatusInterval how the consumer stands: as long as
// calls are in flight, and once more when they have ended, or ctx has. Nothing
// is said while nothing happens.
func (c *Consumer) logStatus(ctx context.Context) error {
	if c.cfg.StatusInterval <= 0 {
		return nil
	}
	tick := time.NewTicker(c.cfg.StatusInterval)
	defer tick.Stop()
	var last status
	for lastTime := time.Now(); ; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		now := time.Now()
		current := status{c.capacity.used.Load(), c.completed.Load(), c.failed.Load(), c.retried.Load()}
		if current != last || current.inFlight > 0 {
			c.logLine(current, last, now.Sub(lastTime))
		}
		if ctx.Err() != nil {
			return nil
		}
		last, lastTime = current, now
	}
}

func (c *Consumer) logLine(current, last status, elapsed time.Duration) {
	ended := float64(current.completed + current.failed - last.completed - last.failed)
	c.cfg.Log.Info("status", "in_flight", current.inFlight, "in_flight_by_model", c.inFlightByModel(),
		"completed", current.completed, "failed", current.failed, "retried", current.retried,
		"ended_per_second", math.Round(10*ended/max(elapsed.Seconds(), 0.001))/10)
}

// inFlightByModel is the number of calls of the busiest models, without the
// idle ones.
func (c *Consumer) inFlightByModel() map[batch.Model]int {
	type busy struct {
		model batch.Model
		calls int
	}
	var all []busy
	for _, p := range c.openPools() {
		if n := p.account.Standing().InUse; n > 0 {
			all = append(all, busy{p.account.Model(), n})
		}
	}
	slices.SortFunc(all, func(a, b busy) int {
		return cmp.Or(cmp.Compare(b.calls, a.calls), cmp.Compare(a.model, b.model))
	})
	out := make(map[batch.Model]int)
	for _, b := range all[:min(len(all), statusModels)] {
		out[b.model] = b.calls
	}
	return out
}
