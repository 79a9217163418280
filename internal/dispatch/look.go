package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/slots"
	"fusillade/streams"
)

// What the leader knows of the broker it asks for seldom while nothing changes: an
// idle cluster would spend most of its time on questions whose answer is known.

// recentWork is for how long after a publish, or after a look that found messages, the
// leader looks for lost consumers at each restoreInterval.
const recentWork = 30 * time.Second

// shards is what the broker said of the streams of all shards.
type shards struct {
	at    time.Time
	infos map[string]*jetstream.StreamInfo // by stream
	used  time.Time                        // when there were messages last
}

// lookInterval is how often the streams are looked at while nothing is published.
func (d *Dispatcher) lookInterval() time.Duration { return min(d.cfg.Lease/3, 10*time.Second) }

// names are those of all streams that the broker has.
func (d *Dispatcher) names(ctx context.Context) (map[string]bool, error) {
	list := d.js.StreamNames(ctx)
	found := make(map[string]bool)
	for name := range list.Name() {
		found[name] = true
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("listing streams: %w", err)
	}
	return found, nil
}

// look asks for the streams of all shards, those too that are none any more, unless
// it did so within maxAge.
func (t *term) look(ctx context.Context, maxAge time.Duration) error {
	if t.shards.infos != nil && time.Since(t.shards.at) < maxAge {
		return nil
	}
	at := time.Now()
	names, err := t.names(ctx)
	if err != nil {
		return err
	}
	infos := make(map[string]*jetstream.StreamInfo)
	for name := range names {
		if _, ok := streams.ParseShard(name); !ok {
			continue
		}
		stream, err := t.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("binding stream %s: %w", name, err)
		}
		infos[name] = stream.CachedInfo()
		if infos[name].State.Msgs > 0 {
			t.shards.used = at
		}
	}
	t.shards.at, t.shards.infos = at, infos
	return nil
}

// working reports whether requests are on their way, or were a short time ago.
func (t *term) working() bool {
	published := time.Unix(0, t.published.Load())
	return time.Since(published) < recentWork || time.Since(t.shards.used) < recentWork
}

// consumers lists the consumers of all shards, as far as the streams had some when
// they were looked at.
func (t *term) consumers(ctx context.Context) (list []*jetstream.ConsumerInfo, err error) {
	for _, stream := range t.streams {
		if info := t.shards.infos[stream.CachedInfo().Config.Name]; info != nil && info.State.Consumers == 0 {
			continue
		}
		found := stream.ListConsumers(ctx)
		for info := range found.Info() {
			list = append(list, info)
		}
		if err := found.Err(); err != nil {
			return nil, fmt.Errorf("listing consumers: %w", err)
		}
	}
	return list, nil
}

// entryList is the bucket of slots as it was read, and what it was then.
type entryList struct {
	entries map[batch.Model]slots.Entry
	created time.Time
	last    uint64 // its last sequence
}

// entriesOfModels are the entries of the bucket of slots, which is read again if it has
// changed. They are not to be changed.
func (t *term) entriesOfModels(ctx context.Context) (map[batch.Model]slots.Entry, error) {
	info, err := streams.BucketInfo(ctx, t.slots) // before it is read: what comes later is read again
	if err != nil {
		return nil, err
	}
	if t.entries.entries != nil && info.Created.Equal(t.entries.created) && info.State.LastSeq == t.entries.last {
		return t.entries.entries, nil
	}
	entries, err := slots.List(ctx, t.slots)
	if err != nil {
		return nil, err
	}
	t.entries = entryList{entries: entries, created: info.Created, last: info.State.LastSeq}
	return entries, nil
}
