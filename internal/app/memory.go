package app

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"fusillade/internal/backoff"
)

// The collector runs when the heap has grown, so a process that has become idle
// keeps what its last minutes of work have left, and Go's runtime releases to the
// system only what is beyond the size at which the collector would run next. Of a
// consumer that is some 60 MB more than it needs. Here it is collected and released
// when a process has become quiet, and again whenever its heartbeats and polls have
// left a few megabytes: a stop of the world of well below a millisecond, on a small
// heap, with nothing to do.

const (
	memoryInterval = 30 * time.Second
	// quietBytes is how much a quiet process allocates in memoryInterval at most:
	// its heartbeats and polls.
	quietBytes = 2 << 20
	// worthBytes is how much it must have allocated since memory was released.
	worthBytes = 4 << 20
)

// memory is what a process has allocated, as it was last looked at.
type memory struct {
	allocated uint64 // since the process began
	released  uint64 // the same when memory was released
}

// quiet takes what is allocated by now, and reports whether memory is to be released.
func (m *memory) quiet(allocated uint64) bool {
	since := allocated - m.allocated
	m.allocated = allocated
	if since > quietBytes || allocated-m.released < worthBytes {
		return false
	}
	m.released = allocated
	return true
}

// ReleaseMemory releases memory to the system when the process has become quiet,
// until ctx ends. It is for a program of ours as a whole.
func ReleaseMemory(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	var m memory
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff.Jitter(memoryInterval)):
		}
		metrics.Read(sample)
		if sample[0].Value.Kind() == metrics.KindUint64 && m.quiet(sample[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}
