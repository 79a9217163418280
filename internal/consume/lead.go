package consume

import "time"

const (
	// minPrefetchTime and maxPrefetchTime bound how much work is fetched ahead, in time:
	// what is fetched is this consumer's until its call, and later work that is more
	// urgent comes after it.
	minPrefetchTime = 100 * time.Millisecond
	maxPrefetchTime = 500 * time.Millisecond
	// pullTime is for the way of a pull to the broker and back.
	pullTime = 50 * time.Millisecond
)

// lead estimates how long a message is here before its call may begin: it waits
// for others, and Postgres starts them together. Where Postgres is far away or
// busy that takes longer than what was fetched for a fixed time lasts, and slots
// would wait for messages that nobody has asked for.
type lead struct{ mean time.Duration }

func (l *lead) add(d time.Duration) { l.mean += (d - l.mean) / 16 }

// prefetchTime is for how long there should be work here. Half of it may be gone
// before more is asked for.
func (l *lead) prefetchTime() time.Duration {
	return min(max(pullTime+2*l.mean, minPrefetchTime), maxPrefetchTime)
}
