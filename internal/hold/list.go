package hold

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
)

// List returns the holds that are in force.
func List(ctx context.Context, kv jetstream.KeyValue) (map[Key]Hold, error) {
	all, err := read(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("listing holds: %w", err)
	}
	now := time.Now()
	for k, h := range all {
		if !h.Until.After(now) {
			delete(all, k)
		}
	}
	return all, nil
}

// read returns all entries. One that is malformed is passed over.
func read(ctx context.Context, kv jetstream.KeyValue) (map[Key]Hold, error) {
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Stop() }()
	all := make(map[Key]Hold)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return nil, errors.New("the watch ended")
			}
			if entry == nil { // the end of what there is
				return all, nil
			}
			if h, err := decode(entry.Value()); err == nil {
				all[Key(entry.Key())] = h
			}
		}
	}
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
