package dispatch

import (
	"context"
	"time"

	"fusillade/internal/backoff"
)

const (
	// budgetPage is the most batches over their budget that one look ends.
	budgetPage = 100
	// budgetPause is the shortest time between two looks, however often something
	// says that there may be work.
	budgetPause = 50 * time.Millisecond
)

// endBudgets ends what exceeds budgets, whenever a consumer says that one is spent,
// and at each expiry interval: a hint may be lost. It returns when ctx ends.
func (d *Dispatcher) endBudgets(ctx context.Context) {
	for {
		d.endOverBudget(ctx)
		if pause(ctx, budgetPause) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-d.spent.C():
		case <-time.After(backoff.Jitter(d.cfg.ExpiryInterval)):
		}
	}
}

// endOverBudget finishes what is left of batches whose budget is spent. A crash after
// the commit that spent it leaves that to the next look, of the one that leads then; one after
// the commit here leaves messages of requests that have finished, as an expiry does.
func (d *Dispatcher) endOverBudget(ctx context.Context) {
	loop := d.cfg.Watch.Step("ending what exceeds budgets")
	defer loop.End()
	for ctx.Err() == nil {
		loop.Busy()
		ended, err := d.cfg.Store.EndOverBudget(ctx, budgetPage)
		for _, e := range ended {
			d.cfg.Log.Info("the budget of a batch is spent: what was not being called is canceled", "batch_id", e.Batch, "requests", e.Requests, "finished", e.Finished)
			d.metrics.overBudget.Add(float64(e.Requests))
			d.dropEnded(ctx, e)
		}
		d.report(ctx, "what exceeds budgets could not be ended", err)
		if err != nil || len(ended) < budgetPage {
			return
		}
	}
}
