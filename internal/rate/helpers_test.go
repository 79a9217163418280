package rate

import (
	"slices"
	"time"
)

func slicesByTime(calls []arrival) {
	slices.SortFunc(calls, func(a, b arrival) int { return a.at.Compare(b.at) })
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }
