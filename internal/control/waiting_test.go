package control_test

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/hold"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// Of a model that is paused and held the pause is told: until it is resumed no probe is
// made, so one who mends what is held would see no change.
func TestPauseIsToldBeforeHold(t *testing.T) {
	t.Parallel()
	for name, held := range map[string]struct {
		hold hold.Hold
		code control.WaitCode
	}{
		"refused": {hold.Hold{Models: []batch.Model{model}, Status: 401, Cause: batch.CauseUnauthorized}, control.WaitHeld},
		"asked":   {hold.Hold{Models: []batch.Model{model}, Status: 503}, control.WaitAsked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			registry, err := hold.New(t.Context(), hold.Config{Conn: w.Conn, Log: testenv.Logger(t)})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { defer close(done); registry.Run(t.Context()) }()
			t.Cleanup(func() { <-done })
			b, err := w.Store.GetBatch(t.Context(), w.id, nil)
			if err != nil {
				t.Fatal(err)
			}
			b.CreatedAt = time.Now().Add(time.Hour) // so young that it misses no consumer
			code := func() control.WaitCode {
				t.Helper()
				waiting, err := w.controller.Waiting(t.Context(), b)
				switch {
				case err != nil:
					t.Fatal(err)
				case waiting == nil:
					return ""
				case waiting.Model != model:
					t.Errorf("%s is told of model %q", waiting.Code, waiting.Model)
				}
				return waiting.Code
			}
			pause := func(paused bool) {
				t.Helper()
				if err := w.controller.ChangeModel(t.Context(), model, postgres.ModelChange{Paused: &paused}); err != nil {
					t.Fatal(err)
				}
			}
			registry.Place(hold.EndpointKey("http://a", "sk", ""), held.hold, time.Hour)
			testenv.Eventually(t, "the hold is told", func() bool { return code() == held.code })
			pause(true)
			if got := code(); got != control.WaitPaused {
				t.Errorf("of a model that is held and paused %q is told", got)
			}
			pause(false)
			if got := code(); got != held.code {
				t.Errorf("resumed, %q is told, want %q", got, held.code)
			}
		})
	}
}
