package slots

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// ReleaseDead releases what these daemons hold. They must be dead, their calls over.
func ReleaseDead(ctx context.Context, kv jetstream.KeyValue, dead map[batch.DaemonID]bool) error {
	entries, err := streams.ReadBucket(ctx, kv)
	if err != nil {
		return fmt.Errorf("listing slots: %w", err)
	}
	for _, entry := range entries {
		e, err := decode(entry.Value())
		if _, holds := e.without(dead); err == nil && !holds {
			continue
		}
		key := entry.Key()
		err = change(ctx, kv, key, func(e Entry) (Entry, bool) { return e.without(dead) })
		if err != nil && !errors.Is(err, batch.ErrNotFound) {
			return fmt.Errorf("releasing slots of dead daemons: %w", err)
		}
	}
	return nil
}

// without drops the holdings of the dead, and reports whether there were any.
func (e Entry) without(dead map[batch.DaemonID]bool) (next Entry, changed bool) {
	next = e
	for holder := range e.Holders {
		if id, err := batch.ParseDaemonID(holder); err == nil && dead[id] {
			next = next.with(holder, Holder{})
		}
	}
	return next, len(next.Holders) < len(e.Holders)
}
