package consume

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// One owner has a thousand pools that wait, another one. Who has fewer calls in
// flight here is next, and not who came first.
func TestPlacesAreSharedByOwner(t *testing.T) {
	t.Parallel()
	s := newPlaces()
	names := make(map[*pool]string)
	wait := func(owner, name string) *pool {
		p := new(pool)
		names[p] = name
		s.wait(owner, p)
		s.wait(owner, p) // listed once
		return p
	}
	many, one := s.open("many"), s.open("one")
	many.inUse.Add(64) // each place is taken
	for i := range 1000 {
		wait("many", fmt.Sprint("many ", i))
	}
	for i := range 3 {
		wait("one", fmt.Sprint("one ", i))
	}
	// A place is freed by the owner of many, and taken by who is next.
	for i := range 3 {
		many.inUse.Add(-1)
		if got := names[s.next()]; got != fmt.Sprint("one ", i) {
			t.Fatalf("place %d went to %q", i, got)
		}
		one.inUse.Add(1)
	}
	for i := range 1000 {
		if got := names[s.next()]; got != fmt.Sprint("many ", i) {
			t.Fatalf("then a place went to %q, want many %d", got, i)
		}
	}
	if p := s.next(); p != nil {
		t.Errorf("%q waits no more, and is next", names[p])
	}
	// Both have as many: who came first.
	many.inUse.Store(3)
	wait("many", "first")
	wait("one", "second")
	if got := names[s.next()]; got != "first" {
		t.Errorf("of two with as many calls %q is next", got)
	}
	s.next()
	s.close(many)
	s.close(one)
	if len(s.owners) > 0 || len(s.waiting) > 0 {
		t.Errorf("%d owners are remembered, %d wait", len(s.owners), len(s.waiting))
	}
}

// What waits in a pool of an owner with fewer calls there goes first, and what one
// owner has stays in its order.
func TestReadyTasksOfWhoHasFewer(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := &pool{times: make(slotTimes)}
	for range 4 {
		p.times.begin("slow", now)
	}
	p.times.begin("quick", now)
	add := func(owner string, line int32) {
		tk := newTestTask(line)
		tk.start.Owner = owner
		p.ready = append(p.ready, tk)
	}
	add("slow", 1)
	add("slow", 2)
	add("quick", 3)
	add("quick", 4)
	add("new", 5)
	add("slow", 6)
	var order []int32
	for len(p.ready) > 0 {
		p.favourFewest()
		order = append(order, p.ready[0].delivery.ID.Line)
		p.times.begin(p.ready[0].start.Owner, now)
		p.takeReady(0)
	}
	if want := []int32{5, 3, 4, 1, 2, 6}; !slices.Equal(order, want) {
		t.Errorf("the calls begin in the order %v, want %v", order, want)
	}
}
