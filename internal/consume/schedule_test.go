package consume

import (
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
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
	h := newInflight()
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

// A lease is renewed so often from when the message came, together with those of the
// next moments, and never beyond the processing timeout, which begins anew while a
// streamed answer comes, and ends with the result.
func TestInflightDue(t *testing.T) {
	t.Parallel()
	const every, timeout = 10 * time.Second, time.Minute
	type model struct {
		*task
		began, last, restarted time.Time
		startsAfter, endsAfter time.Duration
		streams                bool
		started, ended         bool
	}
	rapid.Check(t, func(t *rapid.T) {
		h, now := newInflight(), time.Now()
		var tasks []*model
		span := func(what string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(1, int64(most)).Draw(t, what))
		}
		for end, line := now.Add(4*timeout), int32(1); now.Before(end); now = now.Add(span("step", every)) {
			if len(tasks) == 0 || rapid.IntRange(0, 9).Draw(t, "a message comes") == 0 {
				m := &model{task: newTestTask(line), began: now, last: now, startsAfter: span("started after", 2*timeout), endsAfter: span("ended after", 4*timeout)}
				m.streams = rapid.Bool().Draw(t, "its answer is streamed")
				m.renewed = now
				h.add(m.task)
				tasks = append(tasks, m)
				line++
			}
			for _, m := range tasks {
				if !m.started && now.Sub(m.began) >= m.startsAfter {
					m.started, m.restarted = true, now
					if h.begin(m.task, postgres.Start{Remaining: time.Hour}, now); m.deadline.Sub(m.task.started) != time.Hour {
						t.Fatalf("the deadline is %v after the start, want an hour", m.deadline.Sub(m.task.started))
					}
				}
				m.task.streams.Store(m.started && m.streams && rapid.IntRange(0, 9).Draw(t, "a part comes") == 0)
			}
			parts := h.streaming(now, timeout/3)
			for _, m := range tasks {
				if slices.Contains(parts, m.task) {
					if now.Sub(m.restarted) < timeout/3 || m.ended {
						t.Fatalf("the start of %d is renewed %v after the last time, ended %t", m.delivery.ID.Line, now.Sub(m.restarted), m.ended)
					}
					m.restarted = now
					h.restarted(m.task, now)
				}
				if m.started && !m.ended && rapid.IntRange(0, 14).Draw(t, "it is started again") == 0 {
					m.restarted = now
					h.begin(m.task, postgres.Start{Remaining: time.Hour}, now)
				}
				if m.started && !m.ended && now.Sub(m.began) >= m.endsAfter {
					m.ended = true
					h.finishing(m.task, 10)
				}
			}
			leases, lates := h.leases(now, every, timeout)
			for _, m := range tasks {
				due, late := slices.Contains(leases, m.task), slices.Contains(lates, m.task)
				wantLate := m.started && !m.ended && now.Sub(m.restarted) >= timeout
				want, may := now.Sub(m.last) >= every && !wantLate, now.Sub(m.last) >= every-every/8 && len(leases) > 1 && !wantLate
				if want && !due || due && !want && !may || late != wantLate {
					t.Fatalf("%d: due is %t, want %t; late is %t, want %t: %v since the last, started %t, ended %t", m.delivery.ID.Line, due, want, late, wantLate, now.Sub(m.last), m.started, m.ended)
				}
				if due {
					m.last = now
				}
			}
			tasks = slices.DeleteFunc(tasks, func(m *model) bool {
				if !m.ended || rapid.Bool().Draw(t, "still to be stored") {
					return false
				}
				if bytes := h.remove(m.task); bytes != 10 {
					t.Fatalf("%d bytes of a result of 10", bytes)
				}
				return true
			})
		}
		for _, m := range tasks {
			h.remove(m.task)
		}
		if leases, lates := h.leases(now.Add(every), every, timeout); len(leases)+len(lates)+h.count()+h.leased.Len() != 0 {
			t.Errorf("%d leases and %d late calls of no task, %d kept", len(leases), len(lates), h.leased.Len())
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
