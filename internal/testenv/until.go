package testenv

import (
	"testing"
	"time"
)

const (
	// Patience is how long Eventually waits for what must happen at last. It is
	// generous: it decides only how long a failure takes.
	Patience = time.Minute
	// untilTick is how often Until asks.
	untilTick = 5 * time.Millisecond
)

// Eventually waits for a condition, which it asks again and again. The test
// fails at once if it does not hold within Patience.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	Until(t, Patience, what, holds)
}

// Until is Eventually with a patience of its own.
func Until(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(untilTick)
	defer tick.Stop()
	for !holds() {
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
