package slots

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
)

// Bury drops what these daemons hold. They must be dead, their calls over.
func Bury(ctx context.Context, kv jetstream.KeyValue, dead map[batch.DaemonID]bool) error {
	keys, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return fmt.Errorf("listing slots: %w", err)
	}
	for _, key := range keys {
		if err := bury(ctx, kv, key, dead); err != nil {
			return fmt.Errorf("dropping slots of dead daemons: %w", err)
		}
	}
	return nil
}

func bury(ctx context.Context, kv jetstream.KeyValue, key string, dead map[batch.DaemonID]bool) error {
	for {
		current, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := decode(current.Value())
		if err != nil {
			return err
		}
		next := e
		for holder := range e.Holders {
			if id, err := batch.ParseDaemonID(holder); err == nil && dead[id] {
				next = next.with(holder, Holder{})
			}
		}
		if len(next.Holders) == len(e.Holders) {
			return nil
		}
		_, err = kv.Update(ctx, key, next.encode(), current.Revision())
		// Changed by a daemon in the meantime: once more, until ctx ends.
		if !lostRace(err) {
			return err
		}
	}
}
