package slots

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// markerAge is how long the mark of a removed entry stays in the bucket. Daemons
// that do not see it find the entry missing when they next read the bucket.
const markerAge = time.Minute

// Retire removes a model's entry, unless a daemon holds or wants slots of it. It
// reports whether there is none. Daemons close what they
// have open for the model; EnsureModel makes them open it again.
func Retire(ctx context.Context, kv jetstream.KeyValue, model batch.Model) (retired bool, err error) {
	key := streams.Token(model)
	current, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("retiring slots of model %q: %w", model, err)
	}
	e, err := decode(current.Value())
	if err != nil {
		return false, fmt.Errorf("retiring slots of model %q: %w", model, err)
	}
	if len(e.Holders) > 0 {
		return false, nil
	}
	err = kv.Delete(ctx, key, jetstream.LastRevision(current.Revision()))
	if streams.LostRace(err) { // a daemon has just taken a slot
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("retiring slots of model %q: %w", model, err)
	}
	return true, nil
}

// Tidy removes the marks that Retire has left some time ago.
func Tidy(ctx context.Context, kv jetstream.KeyValue) error {
	if err := kv.PurgeDeletes(ctx, jetstream.DeleteMarkersOlderThan(markerAge)); err != nil {
		return fmt.Errorf("removing marks of retired slots: %w", err)
	}
	return nil
}
