package control

import (
	"context"
	"strconv"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// purgeEach is up to how many single requests have their messages purged one
// by one, each a request to the broker. Those of more are left to be acked.
const purgeEach = 100

// Cancel cancels a batch: when it returns, every request of it has finished and
// is counted. Calls in flight are aborted soon after.
func (c *Controller) Cancel(ctx context.Context, id batch.ID) (postgres.Batch, error) {
	b, err := c.cfg.Store.CancelBatch(ctx, id)
	if err != nil {
		return b, err
	}
	c.announceCancel(ctx, id)
	return b, nil
}

// CancelRequests cancels single requests of a batch.
func (c *Controller) CancelRequests(ctx context.Context, id batch.ID, lines []int32) (postgres.Lines, error) {
	done, err := c.cfg.Store.CancelRequests(ctx, id, lines)
	if err != nil || len(done.Changed) == 0 {
		return done, err
	}
	var list []byte
	var subjects []func(streams.Shard) string
	for _, line := range done.Changed {
		list = append(strconv.AppendInt(list, int64(line), 10), '\n')
		if len(done.Changed) <= purgeEach {
			subjects = append(subjects, func(s streams.Shard) string { return s.LineSubjects(batch.RequestID{Batch: id, Line: line}) })
		}
	}
	c.hintCancel(ctx, id, list[:len(list)-1], subjects...)
	return done, nil
}

// Rerun puts requests of a batch that finished in one of the states back to
// pending. It returns how many.
func (c *Controller) Rerun(ctx context.Context, id batch.ID, a batch.Allowance, states ...batch.State) (int, error) {
	n, err := c.cfg.Store.RerunRequests(ctx, id, a, states...)
	if n > 0 { // also before an error
		c.wake()
	}
	return n, err
}

// RerunLines puts single requests of a batch back to pending.
func (c *Controller) RerunLines(ctx context.Context, id batch.ID, a batch.Allowance, lines []int32) (postgres.Lines, error) {
	done, err := c.cfg.Store.RerunLines(ctx, id, a, lines)
	if len(done.Changed) > 0 {
		c.wake()
	}
	return done, err
}

// DeleteBatch deletes a batch, which is cancelled first if it has not finished.
func (c *Controller) DeleteBatch(ctx context.Context, id batch.ID) error {
	cancelled, err := c.cfg.Store.DeleteBatch(ctx, id)
	if err == nil && cancelled {
		c.announceCancel(ctx, id)
	}
	return err
}

// announceCancel follows the commit of a whole batch's cancel.
func (c *Controller) announceCancel(ctx context.Context, id batch.ID) {
	c.cancelled.Inc()
	c.hintCancel(ctx, id, nil, func(s streams.Shard) string { return s.BatchSubjects(id) })
}
