package dispatch

import (
	"context"
	"errors"
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
func (d *Dispatcher) restoreStreams(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	for _, name := range d.cfg.Streams.StreamNames() {
		_, err := d.js.Stream(ctx, name)
		if err == nil {
			continue
		}
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			d.cfg.Log.Warn("the broker has lost a stream; it is created anew", "stream", name)
			if err = streams.Ensure(ctx, d.js, d.cfg.Streams); err == nil {
				return true
			}
		}
		d.report(ctx, "a stream could not be restored", err)
		return false
	}
	return false
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
