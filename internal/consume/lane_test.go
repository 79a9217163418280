package consume

import (
	"math"
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
	var r rate
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

func TestHandsTakeEachRequestOnce(t *testing.T) {
	t.Parallel()
	h := hands{tasks: make(map[batch.RequestID]*task)}
	first, again := newTestTask(1), newTestTask(1)
	if !h.take(first) || h.take(again) || h.count() != 1 {
		t.Errorf("%d tasks in hand, want the first alone", h.count())
	}
	h.drop(first)
	if h.count() != 0 || !h.take(again) {
		t.Error("a request that was dropped cannot be taken again")
	}
}

func newTestTask(line int32) *task {
	return &task{delivery: postgres.Delivery{ID: batch.RequestID{Line: line}}}
}

// A lease is renewed each third of it from when the message came, and never
// beyond the processing timeout.
func TestHandsDue(t *testing.T) {
	t.Parallel()
	const every, timeout = 10 * time.Second, time.Minute
	rapid.Check(t, func(t *rapid.T) {
		h := hands{tasks: make(map[batch.RequestID]*task)}
		now := time.Now()
		began := now
		tk := newTestTask(1)
		tk.renewed = now
		h.take(tk)
		startedAfter := time.Duration(rapid.Int64Range(0, int64(2*timeout)).Draw(t, "started after"))
		started, last := false, now
		for now.Sub(began) < 4*timeout {
			now = now.Add(time.Duration(rapid.Int64Range(1, int64(every)).Draw(t, "step")))
			if !started && now.Sub(began) >= startedAfter {
				started = true
				h.begin(tk, postgres.Start{Remaining: time.Hour}, now)
			}
			due := len(h.due(now, every, timeout)) == 1
			want := now.Sub(last) >= every && (!started || now.Sub(tk.started) < timeout)
			if due != want {
				t.Fatalf("due is %t, want %t: %v since the last, started %t", due, want, now.Sub(last), started)
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

// Two lanes want the one place while a call gives it back: either one of them
// gets it, or that call is told to wake them.
func TestNoPlaceIsLost(t *testing.T) {
	t.Parallel()
	for range 20000 {
		c := &Consumer{cfg: Config{MaxInFlight: 1}}
		if !c.acquire() {
			t.Fatal("there is a place and it cannot be taken")
		}
		var got [2]bool
		var woken bool
		var all sync.WaitGroup
		all.Go(func() { woken = c.release() })
		for i := range got {
			all.Go(func() { got[i] = c.acquire() })
		}
		all.Wait()
		if got[0] && got[1] {
			t.Fatal("one place was taken twice")
		}
		if !got[0] && !got[1] && !woken {
			t.Fatal("a place is free, two wait for it, and nobody wakes them")
		}
	}
}
