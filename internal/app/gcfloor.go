package app

import "runtime"

// gcFloor is how much the heap may grow beyond the live heap at least before
// the collector runs.
const gcFloor = 64 << 20

// holdGCFloor keeps the collector from running many times a second: it waits
// until the heap has doubled, and a consumer's live heap is a few megabytes.
// (Measured: a fifth of a consumer's CPU time.) The floor is memory that is
// allocated and never used, so it costs address space and nothing else. A
// setting of GOGC would multiply a large heap too; this does not.
func holdGCFloor() (release func()) {
	floor := make([]byte, gcFloor)
	releasePages(floor)
	return func() { runtime.KeepAlive(&floor) }
}
