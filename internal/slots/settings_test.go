package slots

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	settings := Settings{Limit: 3, Paused: true, Escalation: batch.Escalation{Model: "other", Threshold: 900 * time.Second}}
	if err := EnsureModel(t.Context(), e.slots, model, settings); err != nil {
		t.Fatal(err)
	}
	want := Entry{Model: model, Limit: 3, Paused: true, EscalationModel: "other", EscalationSeconds: 900}
	if diff := cmp.Diff(want, e.entry(t)); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(settings, e.entry(t).Settings()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if err := Apply(t.Context(), e.slots, model, Settings{Limit: 3}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Entry{Model: model, Limit: 3}, e.entry(t)); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

// No call begins while the model is paused, and those that wait do as soon as
// it is resumed.
func TestPausedModel(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 5)
	w := e.worker(t, 1, 10)
	w.work(3, false)
	until(t, "calls are made", func() bool { return w.made.Load() == 3 })
	apply := func(s Settings) {
		t.Helper()
		if err := Apply(t.Context(), e.slots, model, s); err != nil {
			t.Fatal(err)
		}
		until(t, "the daemon knows", func() bool {
			to := w.account.Escalation()
			return w.account.Standing().Paused == s.Paused && (to == nil) == (s.Escalation.Model == "") && (to == nil || *to == s.Escalation)
		})
	}
	apply(Settings{Limit: 5, Paused: true, Escalation: batch.Escalation{Model: "other", Threshold: time.Minute}})
	if w.account.Acquire() {
		t.Error("a call may begin")
	}
	w.work(7, false)
	if made := w.made.Load(); made != 3 {
		t.Errorf("%d calls were made, want the first 3", made)
	}
	apply(Settings{Limit: 5})
	until(t, "calls go on", func() bool { return w.made.Load() == 10 })
}
