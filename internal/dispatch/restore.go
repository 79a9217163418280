package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/slots"
	"fusillade/streams"
)

// restoreInterval is how often the leader looks whether the broker has lost
// something.
const restoreInterval = time.Second

// restoreStreams creates the stream and the buckets anew if the broker has
// lost one, and reports whether it did. What was in them is rebuilt from
// Postgres: lanes create their consumers again, and the sweep returns requests
// without messages.
func (t *term) restoreStreams(ctx context.Context) bool {
	opCtx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	consumers, reconnects := 0, t.cfg.Conn.Stats().Reconnects
	for _, name := range t.cfg.Streams.StreamNames() {
		stream, err := t.js.Stream(opCtx, name)
		if err == nil {
			if _, ok := streams.ParseShard(name); ok {
				consumers += stream.CachedInfo().State.Consumers
			}
			continue
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			t.cfg.Log.Warn("the broker has lost a stream; it is created anew", "stream", name)
			if err = streams.Ensure(opCtx, t.js, t.cfg.Streams); err == nil {
				return true
			}
		}
		t.report(ctx, "a stream could not be restored", err)
		return false
	}
	if consumers < t.consuming || reconnects != t.reconnects {
		err := t.restoreConsumers(ctx)
		t.report(ctx, "consumers of the stream could not be restored", err)
		if err != nil {
			return false // and look again
		}
	}
	t.consuming, t.reconnects = consumers, reconnects
	return false
}

// restoreConsumers creates the consumers of models that have an entry and work, and
// no consumer: a single server that restarts has lost them all. Lanes with more to
// publish do so by themselves; here it is for what the stream has already.
func (t *term) restoreConsumers(ctx context.Context) error {
	consumers, err := t.consumers(ctx)
	if err != nil {
		return err
	}
	opCtx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	entries, err := slots.List(opCtx, t.slots)
	if err != nil {
		return err
	}
	for _, info := range consumers {
		delete(entries, streams.ConsumerModel(info.Config))
	}
	if len(entries) == 0 {
		return nil
	}
	busy, err := t.cfg.Store.BusyModels(ctx, slices.Collect(maps.Keys(entries)))
	if err != nil {
		return err
	}
	var errs []error
	for model := range busy {
		t.loop.Busy()
		if l := t.lane(model); l != nil {
			l.lost.Store(true)
		}
		errs = append(errs, t.serve(ctx, model))
	}
	if len(busy) > 0 {
		t.cfg.Log.Warn("the broker had lost the consumers of models with work; they were created anew", "models", len(busy))
	}
	return errors.Join(errs...)
}

// slotsRestored reports whether slots may be given out: every consumer that may
// hold slots of an earlier bucket has had the time to enter its calls in flight
// into this one. There is no such consumer if all began after the bucket was made.
// Lanes that ask at once, as a thousand models come, share one answer.
func (d *Dispatcher) slotsRestored(ctx context.Context) (bool, error) {
	restored, err, _ := d.restored.Do("", func() (any, error) { return d.askRestored(ctx) })
	if err != nil {
		return false, err
	}
	return restored == true, nil
}

func (d *Dispatcher) askRestored(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	// In this order: the time between the two makes the bucket look older.
	oldest, err := d.cfg.Store.OldestConsumer(ctx, d.cfg.StaleThreshold)
	if err != nil {
		return false, err
	}
	age, err := slots.Age(ctx, d.slots)
	if err != nil {
		return false, err
	}
	return oldest <= age || age >= slots.RestoredAfter, nil
}
