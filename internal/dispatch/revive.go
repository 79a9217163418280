package dispatch

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// standing is how a stream's consumer stood when it last moved.
type standing struct {
	delivered uint64
	at        time.Time
}

// revive creates a consumer of the stream anew that is stuck: as many messages
// are unacked as may be, pulls wait, none was delivered for two leases, in
// which each must have been renewed, acked or redelivered, and nobody works on
// a request of the model or waits out its backoff. seen is kept from one call
// to the next.
//
// A crash in the middle leaves no consumer, which the model's lane creates. The
// deliveries of the new one are counted from 1, so a message whose request was
// started before is taken for stale and acked, and its request comes back by
// the claim timeout.
func (d *Dispatcher) revive(ctx context.Context, seen map[string]standing) error {
	ctx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	list := d.stream.ListConsumers(ctx)
	now := time.Now()
	full := make(map[string]bool)
	var stuck []batch.Model
	for info := range list.Info() {
		if info.Config.MaxAckPending <= 0 || info.NumAckPending < info.Config.MaxAckPending {
			continue
		}
		full[info.Name] = true
		was, known := seen[info.Name]
		switch {
		case !known || was.delivered != info.Delivered.Consumer:
			seen[info.Name] = standing{delivered: info.Delivered.Consumer, at: now}
		case now.Sub(was.at) >= 2*d.cfg.Lease && info.NumWaiting > 0:
			stuck = append(stuck, streams.ConsumerModel(info.Config))
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("listing consumers: %w", err)
	}
	for name := range seen {
		if !full[name] {
			delete(seen, name)
		}
	}
	for _, model := range stuck {
		working, err := d.cfg.Store.Working(ctx, model, d.cfg.StaleThreshold)
		if err != nil {
			return err
		}
		if working {
			continue
		}
		if err := d.recreateConsumer(ctx, model); err != nil {
			return fmt.Errorf("creating the consumer of model %q anew: %w", model, err)
		}
		delete(seen, streams.ConsumerName(model))
		d.cfg.Log.Error("the consumer of a model was stuck and was created anew", "model", model)
	}
	return nil
}

func (d *Dispatcher) recreateConsumer(ctx context.Context, model batch.Model) error {
	if err := d.stream.DeleteConsumer(ctx, streams.ConsumerName(model)); err != nil {
		return err
	}
	consumer := streams.ConsumerConfig(model, d.decided().limit(model), d.cfg.Lease)
	_, err := d.stream.CreateOrUpdateConsumer(ctx, consumer)
	return err
}

// reviveInterval sees each lease several times.
func (d *Dispatcher) reviveInterval() time.Duration { return max(d.cfg.Lease/4, 50*time.Millisecond) }
