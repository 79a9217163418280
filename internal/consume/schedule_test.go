package consume

import (
	"math"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
)

func TestRate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var r pace
	add := func(n int, every time.Duration) {
		for range n {
			now = now.Add(every)
			r.add(now)
		}
	}
	near := func(what string, want float64) {
		t.Helper()
		if math.Abs(r.current-want) > want/10+1e-3 {
			t.Errorf("%s: %.1f calls a second, want about %.1f", what, r.current, want)
		}
	}
	add(1, time.Hour)
	near("the first call", 0)
	add(200, 10*time.Millisecond)
	near("a call each 10 ms", 100)
	add(400, time.Millisecond)
	near("a call each ms", 1000)
	add(1, time.Second)
	near("a gap halves the estimate", 500)
	add(60, 50*time.Millisecond)
	near("a call each 50 ms, for long", 20)
}

func TestInflightTakeEachRequestOnce(t *testing.T) {
	t.Parallel()
	h := inflight{tasks: make(map[batch.RequestID]*task), added: notify.New()}
	first, again := newTestTask(1), newTestTask(1)
	if !h.add(first) || h.add(again) || h.count() != 1 {
		t.Errorf("%d tasks in flight, want the first alone", h.count())
	}
	h.remove(first)
	if h.count() != 0 || !h.add(again) {
		t.Error("a request that was dropped cannot be taken again")
	}
}

func newTestTask(line int32) *task {
	return &task{delivery: postgres.Delivery{ID: batch.RequestID{Line: line}}}
}

// A lease is renewed each third of it from when the message came, and never
// beyond the processing timeout, which begins anew while a streamed answer comes.
func TestInflightDue(t *testing.T) {
	t.Parallel()
	const every, timeout = 10 * time.Second, time.Minute
	rapid.Check(t, func(t *rapid.T) {
		h := inflight{tasks: make(map[batch.RequestID]*task), added: notify.New()}
		now := time.Now()
		began := now
		tk := newTestTask(1)
		tk.renewed = now
		h.add(tk)
		startedAfter := time.Duration(rapid.Int64Range(0, int64(2*timeout)).Draw(t, "started after"))
		started, last, restarted := false, now, now
		for now.Sub(began) < 4*timeout {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(every)).Draw(t, "step")))
			if !started && now.Sub(began) >= startedAfter {
				started = true
				h.begin(tk, postgres.Start{Remaining: time.Hour}, now)
				restarted = now
			}
			if tk.streams.Store(started && rapid.Bool().Draw(t, "a part comes")); len(h.streaming(now, timeout/3)) == 1 {
				if now.Sub(restarted) < timeout/3 {
					t.Fatalf("the start is renewed %v after the last time", now.Sub(restarted))
				}
				restarted = now
				h.restarted(tk, now)
			}
			leases, lates := h.leases(now, every, timeout)
			due, late := len(leases) == 1, len(lates) == 1
			wantLate := started && now.Sub(restarted) >= timeout
			want := now.Sub(last) >= every && !wantLate
			if due != want || late != wantLate {
				t.Fatalf("due is %t, want %t; late is %t, want %t: %v since the last, started %t", due, want, late, wantLate, now.Sub(last), started)
			}
			if due {
				last = now
			}
		}
		if tk.deadline.Sub(tk.started) != time.Hour {
			t.Errorf("the deadline is %v after the start, want an hour", tk.deadline.Sub(tk.started))
		}
	})
}

// fakeSlots is an account of a number of slots.
type fakeSlots struct {
	mu   sync.Mutex
	free int
	// acquiring is called in the middle of an Acquire; nil: nothing is.
	acquiring func()
}

func (s *fakeSlots) Acquire() bool {
	if s.acquiring != nil {
		s.acquiring()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free == 0 {
		return false
	}
	s.free--
	return true
}

func (s *fakeSlots) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
}

// One place is left. A pool that gets no slot must not take it meanwhile from
// another pool, which nobody would wake.
func TestFailedReserveTakesNothingFromOthers(t *testing.T) {
	t.Parallel()
	c := capacity{places: 1, maxResults: 1}
	other := &fakeSlots{free: 1}
	got := false
	slotless := &fakeSlots{acquiring: func() { got = c.reserve(other) == reserved }}
	if c.reserve(slotless) == reserved {
		t.Fatal("a call was reserved without a slot")
	}
	if !got {
		t.Error("a place is free and another pool, which has a slot, did not get it; nobody wakes it")
	}
}

// A reserve that finds no place gives its slot back.
func TestFailedReserveKeepsNoSlot(t *testing.T) {
	t.Parallel()
	c := capacity{places: 1, maxResults: 1}
	first, second := &fakeSlots{free: 1}, &fakeSlots{free: 1}
	// The last place goes between the look for it and the slot.
	second.acquiring = func() {
		second.acquiring = nil
		if c.reserve(first) != reserved {
			t.Fatal("there is a place and it cannot be reserved")
		}
	}
	if c.reserve(second) == reserved {
		t.Fatal("one place was reserved twice")
	}
	if second.free != 1 {
		t.Error("the slot is kept without a place")
	}
	if !c.free(first) {
		t.Error("the pool that found no place is not woken")
	}
}

// Two pools want the one place while a call frees it: either one of them gets
// it, or that call is told to wake them.
func TestNoPlaceIsLost(t *testing.T) {
	t.Parallel()
	for range 20000 {
		c := capacity{places: 1, maxResults: 1}
		running := &fakeSlots{free: 1}
		if c.reserve(running) != reserved {
			t.Fatal("there is a place and it cannot be reserved")
		}
		var got [2]bool
		var woken bool
		var all sync.WaitGroup
		all.Go(func() { woken = c.free(running) })
		for i := range got {
			all.Go(func() { got[i] = c.reserve(&fakeSlots{free: 1}) == reserved })
		}
		all.Wait()
		if got[0] && got[1] {
			t.Fatal("one place was reserved twice")
		}
		if !got[0] && !got[1] && !woken {
			t.Fatal("a place is free, two wait for it, and nobody wakes them")
		}
	}
}
