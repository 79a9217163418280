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
// there were. Calls then begin again, gently.
func (c *Controller) LiftHolds(ctx context.Context, model batch.Model, only batch.ID) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	kv, err := c.holdsBucket(ctx)
	if err != nil || kv == nil {
		return 0, err
	}
	n, err := hold.Lift(ctx, kv, model, only)
	if err != nil {
		return n, fmt.Errorf("%w: %w", ErrBrokerUnavailable, err)
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
