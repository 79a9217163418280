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

// Settings are what is decided about a model for the whole cluster.
type Settings struct {
	Limit  batch.Limit // calls in flight
	Paused bool
	// Escalation is where its requests go when little time is left; the zero
	// value: nowhere else. Of the threshold, whole seconds are kept.
	Escalation batch.Escalation
	Rate       batch.RateLimit
}

func (s Settings) apply(e Entry) Entry {
	e = e.withLimit(s.Limit)
	e.Paused = s.Paused
	e.EscalationModel, e.EscalationSeconds = s.Escalation.Model, int64(s.Escalation.Threshold/time.Second)
	e.RequestsPerMinute, e.TokensPerMinute = s.Rate.Requests, s.Rate.Tokens
	return e
}

// Settings returns what was decided.
func (e Entry) Settings() Settings {
	return Settings{Limit: e.setLimit(), Paused: e.Paused, Escalation: batch.Escalation{
		Model: e.EscalationModel, Threshold: time.Duration(e.EscalationSeconds) * time.Second,
	}, Rate: batch.RateLimit{Requests: e.RequestsPerMinute, Tokens: e.TokensPerMinute}}
}

// EnsureModel creates the model's entry with the given settings unless there
// is one, or decides what a daemon left open that made one for its calls in
// flight. Daemons then begin to pull the model's requests.
func EnsureModel(ctx context.Context, kv jetstream.KeyValue, model batch.Model, s Settings) error {
	_, err := kv.Create(ctx, streams.Token(model), s.apply(Entry{Model: model}).encode())
	if errors.Is(err, jetstream.ErrKeyExists) {
		err = change(ctx, kv, streams.Token(model), func(e Entry) (Entry, bool) { return s.apply(e), e.Limit == 0 && s.Limit != 0 })
	}
	if err != nil {
		return fmt.Errorf("creating slots of model %q: %w", model, err)
	}
	return nil
}

// Apply changes a model's settings, or returns batch.ErrNotFound. Calls in
// flight beyond a lower limit, or of a paused model, run to their end; none is
// begun until it may be.
func Apply(ctx context.Context, kv jetstream.KeyValue, model batch.Model, s Settings) error {
	err := change(ctx, kv, streams.Token(model), func(e Entry) (Entry, bool) { return s.apply(e), e.Settings() != s })
	if err != nil {
		return fmt.Errorf("changing settings of model %q: %w", model, err)
	}
	return nil
}

// change replaces an entry by what f makes of it, if f reports a change. It
// returns batch.ErrNotFound.
func change(ctx context.Context, kv jetstream.KeyValue, key string, f func(Entry) (next Entry, changed bool)) error {
	for {
		current, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return batch.ErrNotFound
		}
		if err != nil {
			return err
		}
		e, err := decode(current.Value())
		if err != nil {
			return err
		}
		next, changed := f(e)
		if !changed {
			return nil
		}
		_, err = kv.Update(ctx, key, next.encode(), current.Revision())
		// Changed by a daemon in the meantime: once more, until ctx ends.
		if !streams.LostRace(err) {
			return err
		}
	}
}
