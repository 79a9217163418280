package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPausesDoubleUpToTheLongest(t *testing.T) {
	t.Parallel()
	b := New(100*time.Millisecond, time.Second)
	for round := range 2 {
		for i, step := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			step *= time.Millisecond
			if got := b.Next(); got < step/2 || got > step*3/2 {
				t.Errorf("round %d, pause %d is %v, want %v to %v", round, i, got, step/2, step*3/2)
			}
		}
		b.Reset()
	}
}

func TestPausesDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[time.Duration]bool)
	for range 100 {
		seen[New(time.Second, time.Second).Next()] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 first pauses have %d different lengths, want many", len(seen))
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := New(time.Second, time.Minute).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d < time.Second/2 || d > 3*time.Second/2 {
			t.Errorf("the first pause took %v, want 0.5 s to 1.5 s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := New(time.Hour, time.Hour).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a pause that the context cuts off returned %v, want its error", err)
		}
	})
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for range 1000 {
		if got := Jitter(8 * time.Second); got < 7*time.Second || got > 9*time.Second {
			t.Fatalf("the interval is %v, want 7 s to 9 s", got)
		}
	}
}
