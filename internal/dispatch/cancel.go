package dispatch

import "context"

// resumePage is the most cancels that one look resumes.
const resumePage = 100

// resumeCancels goes on with cancels that their process did not finish. A crash
// in the middle leaves the rest to the next leader.
func (d *Dispatcher) resumeCancels(ctx context.Context) {
	loop := d.cfg.Watch.Step("resuming cancels")
	defer loop.End()
	cancelled, err := d.cfg.Store.ResumeCancels(ctx, resumePage)
	for _, id := range cancelled {
		d.cfg.Log.Info("the cancel of a batch was resumed", "batch_id", id)
		d.purgeMessages(ctx, id)
		d.hintEnded(id)
	}
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("resuming cancels", "err", err)
	}
}
