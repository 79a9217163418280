package slots

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestReleaseDead(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	alive, dead := batch.DaemonID{1}, batch.DaemonID{2}
	if err := ReleaseDead(t.Context(), e.slots, map[batch.DaemonID]bool{dead: true}); err != nil {
		t.Errorf("with no entries: %v", err)
	}
	want := make(map[batch.Model]Entry)
	for name, holders := range map[batch.Model][]batch.DaemonID{"a": {alive, dead}, "b": {dead}, "c": {alive}, "d": nil} {
		entry := Entry{Model: name, Limit: 9}
		for _, id := range holders {
			entry = entry.with(id.String(), Holder{Held: 3, Want: 4})
		}
		if _, err := e.slots.Put(t.Context(), string(name), entry.encode()); err != nil {
			t.Fatal(err)
		}
		entry = entry.with(dead.String(), Holder{})
		if len(entry.Holders) == 0 {
			entry.Holders = nil
		}
		want[name] = entry
	}
	for range 2 {
		if err := ReleaseDead(t.Context(), e.slots, map[batch.DaemonID]bool{dead: true}); err != nil {
			t.Fatal(err)
		}
		got, err := List(t.Context(), e.slots)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("slots (-want +got):\n%s", diff)
		}
	}
}
