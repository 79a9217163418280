package dispatch

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// progress is how a stream's consumer stood when it last moved.
type progress struct {
	delivered uint64
	at        time.Time
}

// recreateStuckConsumers creates a consumer of the stream anew that is stuck: as
// many messages are unacked as may be, pulls wait, none was delivered for two
// leases, in which each must have been renewed, acked or redelivered, and no
// request of the model is being worked on or waits out its backoff.
//
// A crash in the middle leaves no consumer, which the model's lane creates. The
// deliveries of the new one are counted from 1, so a message whose request was
// started before is refused until it is counted as far as before.
func (t *term) recreateStuckConsumers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	if err := t.look(ctx, t.lookInterval()); err != nil {
		return err
	}
	list, err := t.consumers(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	full := make(map[string]bool)
	var stuck []batch.Model
	for _, info := range list {
		model := streams.ConsumerModel(info.Config)
		if info.Stream != t.shard(model).Stream() || info.Config.MaxAckPending <= 0 || info.NumAckPending < info.Config.MaxAckPending {
			continue
		}
		full[info.Name] = true
		was, known := t.stood[info.Name]
		switch {
		case !known || was.delivered != info.Delivered.Consumer:
			t.stood[info.Name] = progress{delivered: info.Delivered.Consumer, at: now}
		case now.Sub(was.at) >= 2*t.cfg.Lease && info.NumWaiting > 0:
			stuck = append(stuck, model)
		}
	}
	for name := range t.stood {
		if !full[name] {
			delete(t.stood, name)
		}
	}
	for _, model := range stuck {
		working, err := t.cfg.Store.Working(ctx, model, t.cfg.StaleThreshold)
		if err != nil {
			return err
		}
		if working {
			continue
		}
		if err := t.recreateConsumer(ctx, model); err != nil {
			return fmt.Errorf("creating the consumer of model %q anew: %w", model, err)
		}
		delete(t.stood, streams.ConsumerName(model))
		t.cfg.Log.Error("the consumer of a model was stuck and was created anew", "model", model)
	}
	return nil
}

func (d *Dispatcher) recreateConsumer(ctx context.Context, model batch.Model) error {
	if err := d.stream(model).DeleteConsumer(ctx, streams.ConsumerName(model)); err != nil {
		return err
	}
	consumer := d.shard(model).ConsumerConfig(model, d.decided().limit(model).Most(), d.cfg.Lease)
	_, err := streams.EnsureConsumer(ctx, d.stream(model), consumer)
	return err
}

// stuckInterval is short enough to see each lease several times.
func (d *Dispatcher) stuckInterval() time.Duration { return max(d.cfg.Lease/4, 50*time.Millisecond) }
