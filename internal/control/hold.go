package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/streams"
)

// LiftHolds ends the holds of a model in the whole cluster, those of single
// batches too; or only that of one batch if it is given. It returns how many
// there were. Calls then begin again, gently, also of requests that a hold or a
// backoff had put off.
//
// A crash before those are brought forward leaves them due when the hold would have
// ended.
func (c *Controller) LiftHolds(ctx context.Context, model batch.Model, only batch.ID) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	kv, err := c.holdsBucket(ctx)
	if err != nil || kv == nil {
		return 0, err
	}
	before, err := hold.List(ctx, kv)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrBrokerUnavailable, err)
	}
	n, err := hold.Lift(ctx, kv, model, only)
	if err != nil {
		return n, fmt.Errorf("%w: %w", ErrBrokerUnavailable, err)
	}
	for _, h := range before {
		if !slices.Contains(h.Models, model) || only != (batch.ID{}) && h.Batch != only {
			continue
		}
		for _, m := range h.Models { // all of them are called with what was held
			if _, err := c.cfg.Store.BringForward(ctx, m, h.Batch); err != nil {
				return n, err
			}
		}
	}
	if n > 0 {
		c.wake()
	}
	return n, nil
}

// holds are those in force, by model.
func (c *Controller) holds(ctx context.Context) (map[batch.Model][]hold.Hold, error) {
	kv, err := c.holdsBucket(ctx)
	if err != nil || kv == nil {
		return nil, err
	}
	all, err := hold.List(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBrokerUnavailable, err)
	}
	of := make(map[batch.Model][]hold.Hold)
	for _, h := range all {
		for _, m := range h.Models {
			of[m] = append(of[m], h)
		}
	}
	for _, list := range of {
		slices.SortFunc(list, func(a, b hold.Hold) int {
			return cmp.Or(slices.Compare(a.Batch[:], b.Batch[:]), a.Until.Compare(b.Until))
		})
	}
	return of, nil
}

// holdsBucket is nil if no dispatcher has made the bucket yet.
func (c *Controller) holdsBucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := c.js.KeyValue(ctx, streams.HoldsBucket)
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: binding bucket %s: %w", ErrBrokerUnavailable, streams.HoldsBucket, err)
	}
	return kv, nil
}
