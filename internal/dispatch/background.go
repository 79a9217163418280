package dispatch

import (
	"context"
	"sync"
	"time"

	"fusillade/internal/backoff"
)

// purgeDelay is how long a leader leads before it purges: a process that is here
// for a moment, to write the results of an old job once more, must not find them
// gone.
const purgeDelay = time.Minute

// startBackground starts what the leader does beside its short steps, until ctx
// ends. A long purge must not hold those up.
func (d *Dispatcher) startBackground(ctx context.Context, background *sync.WaitGroup) {
	if d.cfg.ExpiryInterval > 0 && d.cfg.StopBeforeDeadline != nil {
		background.Go(func() { every(ctx, 0, d.cfg.ExpiryInterval, d.expire) })
	}
	if d.cfg.ExpiryInterval > 0 {
		background.Go(func() { every(ctx, 0, d.cfg.ExpiryInterval, d.resumeCancels) })
		background.Go(func() { d.endBudgets(ctx) })
	}
	for _, f := range d.cfg.Background {
		background.Go(func() { f(ctx) })
	}
	if d.cfg.Purge.Interval > 0 {
		background.Go(func() { every(ctx, min(d.cfg.Purge.Interval, purgeDelay), d.cfg.Purge.Interval, d.purge) })
	}
}

// every calls f after the first pause and then again after each interval, until
// ctx ends.
func every(ctx context.Context, first, interval time.Duration, f func(context.Context)) {
	for wait := first; pause(ctx, wait) == nil; wait = backoff.Jitter(interval) {
		f(ctx)
	}
}
