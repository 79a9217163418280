package dispatch

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// What fails, or is not to be begun, holds nothing else up, however much of it
// there is in front.
func TestPurgeGoesOn(t *testing.T) {
	t.Parallel()
	var things []int
	for i := range 3*purgePage + 7 {
		things = append(things, i)
	}
	list := func(_ context.Context, n int) ([]int, error) { return slices.Clone(things[:min(n, len(things))]), nil }
	broken := errors.New("broken")
	remove := func(_ context.Context, id, _ int) (int, error) {
		i := slices.Index(things, id)
		switch {
		case id < 10:
			return 0, broken
		case i < 0:
			return 0, nil
		}
		things = slices.Delete(things, i, i+1)
		return 1, nil
	}
	rows, err := drain(t.Context(), Purge{Rows: 1}, list, remove, func(id int) bool { return id < 10 || id >= 15 })
	if !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	if want := 3*purgePage + 7 - 15; rows != want || len(things) != 15 {
		t.Errorf("%d rows were removed, and %d things are left; want %d and 15", rows, len(things), want)
	}
	// A database that is away is not asked about each of them.
	asked := 0
	all := func(_ context.Context, n int) ([]int, error) {
		return []int{1, 2, 3, 4, 5, 6, 7, 8, 9}[:min(n, 9)], nil
	}
	_, err = drain(t.Context(), Purge{Rows: 1}, all, func(context.Context, int, int) (int, error) { asked++; return 0, broken }, nil)
	if err == nil || asked != 9 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}
