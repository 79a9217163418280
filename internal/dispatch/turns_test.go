package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"fusillade/internal/testenv"
)

// An owner who waits with a thousand lanes lets another pass who comes later with
// one, and is served by weight beside one who has as many.
func TestTurns(t *testing.T) {
	t.Parallel()
	turns := newTurns(10)
	if err := turns.take(t.Context(), "many", 1, 10); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var lanes sync.WaitGroup
	asked := 0
	ask := func(owner string, weight float64, places int) {
		t.Helper()
		lanes.Go(func() {
			if err := turns.take(t.Context(), owner, weight, places); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, owner)
			mu.Unlock()
			turns.give(places)
		})
		asked++
		testenv.Eventually(t, "it waits", func() bool {
			turns.mu.Lock()
			defer turns.mu.Unlock()
			return len(turns.waiting) == asked
		})
	}
	for range 1000 {
		ask("many", 1, 10)
	}
	for range 30 {
		ask("heavy", 3, 10)
	}
	ask("one", 1, 10)
	turns.give(10)
	lanes.Wait()
	if len(order) != 1031 {
		t.Fatalf("%d turns", len(order))
	}
	place := make(map[string]int)
	for i, owner := range order[:40] {
		place[owner]++
		if owner == "one" && i > 2 {
			t.Errorf("who waits for a single lane was number %d", i)
		}
	}
	if place["one"] != 1 || place["heavy"] < 28 || place["many"] < 9 {
		t.Errorf("the first 40 turns: %v, want 1 to 3 of the owners with many lanes, by weight", place)
	}
	if turns.free != 10 {
		t.Errorf("%d places are free", turns.free)
	}
}

func TestTurnsEnd(t *testing.T) {
	t.Parallel()
	turns := newTurns(2)
	for range 2 {
		if err := turns.take(t.Context(), "a", 1, 1); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	large := make(chan error)
	go func() { large <- turns.take(ctx, "a", 1, 5) }() // more than there are: all of them
	waiting := func(n int) {
		testenv.Eventually(t, fmt.Sprintf("%d wait", n), func() bool {
			turns.mu.Lock()
			defer turns.mu.Unlock()
			return len(turns.waiting) == n
		})
	}
	waiting(1)
	small := make(chan error)
	go func() { small <- turns.take(t.Context(), "a", 1, 1) }()
	waiting(2)
	turns.give(1)
	waiting(2) // the one that needs two is next
	cancel()
	if err := <-large; !errors.Is(err, context.Canceled) {
		t.Errorf("a turn that was given up = %v", err)
	}
	if err := <-small; err != nil {
		t.Error(err)
	}
	turns.give(2)
	if turns.free != 2 {
		t.Errorf("%d places are free", turns.free)
	}
	for i := range 10_000 { // what is over is forgotten
		if err := turns.take(t.Context(), strings.Repeat("x", i%1000), 1, 1); err != nil {
			t.Fatal(err)
		}
		turns.give(1)
	}
	if len(turns.tags) > 2000 {
		t.Errorf("%d owners are remembered", len(turns.tags))
	}
}
