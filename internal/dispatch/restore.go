package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"fusillade/internal/slots"
	"fusillade/streams"
)

// restoreInterval is how often the leader looks whether the broker has lost
// something: a stream or a bucket, and while there is work, consumers.
const restoreInterval = time.Second

// idleRestoreInterval is the same while no requests are on their way: nobody waits for
// what is lost then, and a lane of this dispatcher that finds it lost has it looked for
// at once.
const idleRestoreInterval = 3 * time.Second

func (t *term) restoreIn() time.Duration {
	if t.working() {
		return restoreInterval
	}
	return idleRestoreInterval
}

// restoreStreams creates the stream and the buckets anew if the broker has
// lost one, and reports whether it did. What was in them is rebuilt from
// Postgres: lanes create their consumers again, and the sweep returns requests
// without messages.
func (t *term) restoreStreams(ctx context.Context) bool {
	opCtx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	names, err := t.names(opCtx)
	if err != nil {
		t.report(ctx, "lost streams could not be looked for", err)
		return false
	}
	for _, name := range t.cfg.Streams.StreamNames() {
		if names[name] {
			continue
		}
		t.cfg.Log.Warn("the broker has lost a stream; it is created anew", "stream", name)
		err := streams.Ensure(opCtx, t.js, t.cfg.Streams)
		t.report(ctx, "a stream could not be restored", err)
		return err == nil
	}
	t.report(ctx, "consumers of the stream could not be restored", t.restoreLost(ctx))
	return false
}

// restoreLost looks whether the streams have fewer consumers than before, or the
// connection was lost meanwhile.
func (t *term) restoreLost(ctx context.Context) error {
	opCtx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	reconnects, maxAge := t.cfg.Conn.Stats().Reconnects, t.lookInterval()
	if t.working() || reconnects != t.reconnects {
		maxAge = 0
	}
	if err := t.look(opCtx, maxAge); err != nil {
		return err
	}
	consumers := 0
	for _, shard := range t.cfg.Streams.Shards.All() {
		if info := t.shards.infos[shard.Stream()]; info != nil {
			consumers += info.State.Consumers
		}
	}
	if consumers < t.consuming || reconnects != t.reconnects {
		if err := t.restoreConsumers(ctx); err != nil {
			return err // and look again
		}
	}
	t.consuming, t.reconnects = consumers, reconnects
	return nil
}

// restoreConsumers creates the consumers of models that have an entry and work, and
// no consumer: a single server that restarts has lost them all. Lanes with more to
// publish do so by themselves; here it is for what the stream has already.
func (t *term) restoreConsumers(ctx context.Context) error {
	opCtx, cancel := context.WithTimeout(ctx, 3*brokerTimeout)
	defer cancel()
	consumers, err := t.consumers(opCtx)
	if err != nil {
		return err
	}
	entries, err := t.entriesOfModels(opCtx)
	if err != nil {
		return err
	}
	lost := maps.Clone(entries)
	for _, info := range consumers {
		delete(lost, streams.ConsumerModel(info.Config))
	}
	if len(lost) == 0 {
		return nil
	}
	busy, err := t.cfg.Store.BusyModels(ctx, slices.Collect(maps.Keys(lost)))
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
