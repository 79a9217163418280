package testenv

import (
	"testing"
	"time"
)

const (
	// Patience is how long Eventually waits for what must happen at last. It is
	// generous: it decides only how long a failure takes.
	Patience = 2 * time.Minute
	// Until asks again after a part of the time that it has waited, within these
	// bounds: what answers is busy with what the test waits for.
	minUntilTick, maxUntilTick = 5 * time.Millisecond, 50 * time.Millisecond
	untilPart                  = 20
)

// Eventually waits for a condition, which it asks again and again. The test
// fails at once if it does not hold within Patience.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	Until(t, Patience, what, holds)
}

// Steadily is Eventually for what takes long on a busy machine: it waits as long
// as the progress changes within Patience.
func Steadily(t testing.TB, what string, look func() (progress int64, holds bool)) {
	t.Helper()
	last, holds := look()
	for !holds {
		var now int64
		Eventually(t, what, func() bool {
			now, holds = look()
			return holds || now != last
		})
		last = now
	}
}

// Until is Eventually with a patience of its own.
func Until(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	began := time.Now()
	tick := time.NewTimer(minUntilTick)
	defer tick.Stop()
	for !holds() {
		tick.Reset(min(max(time.Since(began)/untilPart, minUntilTick), maxUntilTick))
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

// Receive returns the next value of a channel, or the zero value of a closed
// one. The test fails at once if there is none within Patience.
func Receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	select {
	case v = <-c:
	case <-deadline.C:
		t.Fatalf("after %v still not: %s", Patience, what)
	}
	return v
}
