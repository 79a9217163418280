package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// progress is how a stream's consumer stood when it last moved.
type progress struct {
	delivered uint64
	at        time.Time
}

// maxOverlooked is how many consumers are asked about at once that may overlook
// messages; the others have their turn later.
const maxOverlooked = 16

// recreateStuckConsumers creates a consumer of the stream anew that is stuck, and
// has delivered nothing for two leases, in which each message must have been
// renewed, acked or redelivered. There are two kinds:
//
//   - as many messages are unacked as may be, pulls wait, and no request of the model
//     is being worked on or waits out its backoff;
//   - the stream has messages of the model, and the consumer knows of none: copies of
//     a replicated store that were put back may differ from each other for good.
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
	full, overlooking := t.unmoved(list)
	for _, model := range full {
		working, err := t.cfg.Store.Working(ctx, model, t.cfg.StaleThreshold)
		if err != nil {
			return err
		}
		if working {
			continue
		}
		if err := t.recreateStuck(ctx, model); err != nil {
			return err
		}
	}
	for _, model := range overlooking[:min(len(overlooking), maxOverlooked)] {
		if queued, err := t.queued(ctx, model); err != nil {
			return err
		} else if queued {
			if err := t.recreateStuck(ctx, model); err != nil {
				return err
			}
			continue
		}
		name := streams.ConsumerName(model)
		t.stood[name] = progress{delivered: t.stood[name].delivered, at: time.Now()}
	}
	return nil
}

// unmoved are the models whose consumers have delivered nothing for two leases: those
// that are full, and those that may overlook messages, since their streams have more
// than all of their consumers know of.
func (t *term) unmoved(list []*jetstream.ConsumerInfo) (full, overlooking []batch.Model) {
	known := make(map[string]uint64) // messages of each stream
	for _, info := range list {
		known[info.Stream] += info.NumPending + uint64(max(info.NumAckPending, 0)) //nolint:gosec // not negative
	}
	now := time.Now()
	still := make(map[string]bool)
	for _, info := range list {
		model := streams.ConsumerModel(info.Config)
		if info.Stream != t.shard(model).Stream() {
			continue
		}
		isFull := info.Config.MaxAckPending > 0 && info.NumAckPending >= info.Config.MaxAckPending
		stream := t.shards.infos[info.Stream]
		overlooks := info.NumPending == 0 && info.NumAckPending == 0 && stream != nil && stream.State.Msgs > known[info.Stream]
		if !isFull && !overlooks {
			continue
		}
		still[info.Name] = true
		was, seen := t.stood[info.Name]
		switch {
		case !seen || was.delivered != info.Delivered.Consumer:
			t.stood[info.Name] = progress{delivered: info.Delivered.Consumer, at: now}
		case now.Sub(was.at) < 2*t.cfg.Lease:
		case overlooks:
			overlooking = append(overlooking, model)
		case info.NumWaiting > 0:
			full = append(full, model)
		}
	}
	for name := range t.stood {
		if !still[name] {
			delete(t.stood, name)
		}
	}
	return full, overlooking
}

// queued reports whether the stream has messages of a model, as its leader knows.
func (t *term) queued(ctx context.Context, model batch.Model) (bool, error) {
	filter := t.shard(model).ConsumerConfig(model, 1, t.cfg.Lease).FilterSubject
	info, err := t.stream(model).Info(ctx, jetstream.WithSubjectFilter(filter))
	if err != nil {
		return false, fmt.Errorf("looking for messages of model %q: %w", model, err)
	}
	return len(info.State.Subjects) > 0, nil
}

func (t *term) recreateStuck(ctx context.Context, model batch.Model) error {
	if err := t.recreateConsumer(ctx, model); err != nil {
		return fmt.Errorf("creating the consumer of model %q anew: %w", model, err)
	}
	delete(t.stood, streams.ConsumerName(model))
	t.cfg.Log.Error("the consumer of a model was stuck and was created anew", "model", model)
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
