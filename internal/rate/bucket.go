package rate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// bucket is where entries are. An error other than these says nothing about
// whether a write was done.
type bucket interface {
	get(ctx context.Context, key string) (revision, error) // errMissing
	create(ctx context.Context, key string, value []byte) error
	update(ctx context.Context, key string, value []byte, last uint64) (number uint64, err error)
	// now is a time that the broker's clock shows between call and return.
	now(ctx context.Context) (time.Time, error)
}

var (
	errMissing = errors.New("there is no such entry")
	errRace    = errors.New("another daemon was faster")
)

// revision is an entry as it was written last, with the time by the broker's clock.
type revision struct {
	value    []byte
	revision uint64
	at       time.Time
}

type keyValue struct{ kv jetstream.KeyValue }

func (b keyValue) get(ctx context.Context, key string) (revision, error) {
	entry, err := b.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return revision{}, errMissing
	}
	if err != nil {
		return revision{}, err
	}
	return revision{entry.Value(), entry.Revision(), entry.Created()}, nil
}

func (b keyValue) create(ctx context.Context, key string, value []byte) error {
	_, err := b.kv.Create(ctx, key, value)
	return race(err)
}

func (b keyValue) update(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	number, err := b.kv.Update(ctx, key, value, last)
	return number, race(err)
}

// race returns errRace for a compare-and-set that found another revision.
func race(err error) error {
	if streams.LostRace(err) {
		return errRace
	}
	return err
}

func (b keyValue) now(ctx context.Context) (time.Time, error) {
	info, err := streams.BucketInfo(ctx, b.kv)
	if err != nil {
		return time.Time{}, fmt.Errorf("asking the broker for the time: %w", err)
	}
	return info.TimeStamp, nil
}

// List returns what was used in the last minute, by model.
func List(ctx context.Context, kv jetstream.KeyValue) (map[batch.Model]Amount, error) {
	entries, err := streams.ReadBucket(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("listing rates: %w", err)
	}
	now, err := keyValue{kv}.now(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing rates: %w", err)
	}
	used := make(map[batch.Model]Amount)
	for _, entry := range entries {
		e, err := decode(entry.Value())
		if err != nil || e.Model == "" || e.Anew {
			continue
		}
		e.fold(entry.Created(), batch.RateLimit{})
		e.trim(now)
		used[e.Model] = e.used()
	}
	return used, nil
}
