package hold

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// List returns the holds that are in force.
func List(ctx context.Context, kv jetstream.KeyValue) (map[Key]Hold, error) {
	all, err := read(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("listing holds: %w", err)
	}
	now := time.Now()
	for k, h := range all {
		if !h.alive(now) {
			delete(all, k)
		}
	}
	return all, nil
}

// read returns all entries. One that is malformed is passed over.
func read(ctx context.Context, kv jetstream.KeyValue) (map[Key]Hold, error) {
	entries, err := streams.ReadBucket(ctx, kv)
	if err != nil {
		return nil, err
	}
	info, err := streams.BucketInfo(ctx, kv)
	if err != nil {
		return nil, err
	}
	clock := ahead(info, time.Now())
	all := make(map[Key]Hold, len(entries))
	for _, entry := range entries {
		if h, err := decode(entry, clock); err == nil {
			all[Key(entry.Key())] = h
		}
	}
	return all, nil
}

// Lift ends the holds of a model in every process, those of single batches
// too, or only that of one batch if it is given. It returns how many there were.
func Lift(ctx context.Context, kv jetstream.KeyValue, model batch.Model, only batch.ID) (int, error) {
	all, err := List(ctx, kv)
	if err != nil {
		return 0, err
	}
	n := 0
	for k, h := range all {
		if !slices.Contains(h.Models, model) || only != (batch.ID{}) && h.Batch != only {
			continue
		}
		if err := kv.Delete(ctx, string(k)); err != nil {
			return n, fmt.Errorf("lifting a hold: %w", err)
		}
		n++
	}
	return n, nil
}
