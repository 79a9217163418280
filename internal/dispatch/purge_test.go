package dispatch

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/postgres"
)

// What cannot be purged, however much of it there is, keeps nothing else from
// being purged, and is tried once in a purge.
func TestDrainPassesOverWhatFails(t *testing.T) {
	t.Parallel()
	const failing, skipped, all = 2*purgePage + 50, 30, 4 * purgePage
	left := make([]int, all)
	for i := range left {
		left[i] = i
	}
	tries := make(map[int]int)
	rows, err := drain(t.Context(), Purge{Rows: 10}, func(_ context.Context, n int) ([]int, error) {
		return slices.Clone(left[:min(n, len(left))]), nil
	}, func(_ context.Context, id int, _ *postgres.PurgePlace, n int) (int, error) {
		tries[id]++
		if id < failing {
			return 0, errors.New("refused")
		}
		if tries[id] > 1 { // nothing is left of it
			left = slices.DeleteFunc(left, func(other int) bool { return other == id })
			return 0, nil
		}
		return n, nil
	}, func(id int) bool { return id < failing || id >= failing+skipped })
	if want := 10 * (all - failing - skipped); err == nil || rows != want {
		t.Errorf("%d rows were removed, want %d and an error: %v", rows, want, err)
	}
	want := make([]int, failing+skipped)
	for i := range want {
		want[i] = i
		if n := tries[i]; i < failing && n != 1 || i >= failing && n != 0 {
			t.Errorf("%d was tried %d times", i, n)
		}
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}
