package dispatch

import (
	"context"
	"errors"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/slots"
)

// settingsRepeat is how often settings are written again that have not changed,
// in case the bucket was lost or restored.
const settingsRepeat = 5 * time.Second

// settingsInterval is how soon what could not be written is tried again.
func (d *Dispatcher) settingsInterval() time.Duration {
	return min(d.cfg.ClaimInterval/2, 250*time.Millisecond)
}

// listedFrom is from how many models on their entries are read together, which costs
// the broker about as much as to read so many one by one.
const listedFrom = 8

// applySettings writes the limits and what else was decided about models where
// consumers see them. Only the leader does, so that dispatchers with different
// environments do not take turns. It reports whether all of them are written.
func (t *term) applySettings(ctx context.Context) (done bool) {
	decided := t.decided()
	wanted := make(map[batch.Model]slots.Settings)
	for _, model := range t.models() {
		if want := decided.slots(model); t.applied[model] != want {
			wanted[model] = want
		}
	}
	if len(wanted) == 0 {
		return true
	}
	restored, err := t.slotsRestored(ctx)
	t.report(ctx, "settings of models could not be applied", err)
	if !restored {
		clear(t.applied) // what was there is no more
		return false
	}
	if len(wanted) >= listedFrom {
		t.passOver(ctx, wanted)
	}
	done = true
	for model, want := range wanted {
		t.loop.Busy()
		if err := t.applyTo(ctx, model, want); err == nil {
			t.applied[model] = want
		} else if ctx.Err() == nil {
			done = false
			t.cfg.Log.Warn("settings of a model could not be applied", "model", model, "err", err)
		}
	}
	return done
}

// passOver leaves out the models whose entries say what is wanted.
func (t *term) passOver(ctx context.Context, wanted map[batch.Model]slots.Settings) {
	opCtx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	entries, err := slots.List(opCtx, t.slots)
	if err != nil { // they are read one by one
		t.report(ctx, "entries of models could not be read together", err)
		return
	}
	for model, want := range wanted {
		if e, ok := entries[model]; ok && e.Settings() == want {
			t.applied[model] = want
			delete(wanted, model)
		}
	}
}

func (t *term) applyTo(ctx context.Context, model batch.Model, want slots.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	err := slots.Apply(ctx, t.slots, model, want)
	if !errors.Is(err, batch.ErrNotFound) {
		return err
	}
	if l := t.lane(model); l != nil && l.ensured.Load() { // the bucket was lost
		return slots.EnsureModel(ctx, t.slots, model, want)
	}
	return nil // its first request creates it
}
