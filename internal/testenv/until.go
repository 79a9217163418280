package testenv

import (
	"testing"
	"time"
)

// untilTick is how often Until asks.
const untilTick = 5 * time.Millisecond

// Until waits for a condition, which it asks again and again. The test fails at
// once if it does not hold within patience.
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
