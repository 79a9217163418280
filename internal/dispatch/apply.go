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

// settingsInterval lets a changed limit be in force within a second.
func (d *Dispatcher) settingsInterval() time.Duration {
	return min(d.cfg.ClaimInterval/2, 250*time.Millisecond)
}

// applySettings writes the limits and what else was decided about models where
// consumers see them. Only the leader does, so that dispatchers with different
// environments do not take turns.
func (t *term) applySettings(ctx context.Context) {
	decided := t.decided()
	restored := false
	for _, model := range t.models() {
		want := decided.slots(model)
		if t.applied[model] == want {
			continue
		}
		if !restored {
			var err error
			restored, err = t.slotsRestored(ctx)
			t.report(ctx, "settings of models could not be applied", err)
			if !restored {
				clear(t.applied) // what was there is no more
				return
			}
		}
		opCtx, cancel := context.WithTimeout(ctx, brokerTimeout)
		err := slots.Apply(opCtx, t.slots, model, want)
		if errors.Is(err, batch.ErrNotFound) {
			err = nil                                             // its first request creates it
			if l := t.lane(model); l != nil && l.ensured.Load() { // or the bucket was lost
				err = slots.EnsureModel(opCtx, t.slots, model, want)
			}
		}
		cancel()
		if err == nil {
			t.applied[model] = want
		} else if ctx.Err() == nil {
			t.cfg.Log.Warn("settings of a model could not be applied", "model", model, "err", err)
		}
	}
}
