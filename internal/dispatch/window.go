package dispatch

import (
	"math"
	"time"

	"fusillade/internal/batch"
)

const (
	// minDepth messages always wait for a model, so that a slot that frees
	// finds one.
	minDepth = 4
	// minRefillTime is the time from a message being taken to the next one being
	// published in its place (hint, claim, publish), twice over, where that is
	// quick. Where Postgres or the broker is far away or busy it is measured, up to
	// maxRefillTime.
	minRefillTime, maxRefillTime = 100 * time.Millisecond, 500 * time.Millisecond
	// rateTime is for how long a rate limit finds work in the window.
	rateTime = time.Second
	// sampleTime is the least time over which a rate is measured.
	sampleTime = 50 * time.Millisecond
)

// depth is how a model's stream stands: what its consumer has not delivered
// yet, what is delivered and not acked, and how many it has delivered ever.
type depth struct {
	pending   int
	unacked   int
	delivered uint64
}

// window decides how many more messages a model should have waiting. It
// remembers how fast they are taken.
type window struct {
	callTime time.Duration // how long a slot is in use by one of the next calls; 0: not known
	refill   time.Duration // from a look that found room to the last message being in the stream; 0: not known
	rate     float64       // messages taken a second; the fastest of late
	last     uint64
	since    time.Time
}

// room is how many messages to publish now.
//
// The window is what drains while it is refilled, plus what the free slots
// can take at once; no more, so that deadlines, fairness and cancels are
// decided late. (Urgent work behind a window waits for about window × call
// time / limit. So where calls are slow it is no more than the slots free while
// it is refilled, and one.) Messages that wait out a backoff are unacked too and hold no
// slot; that only makes the window look for fewer free slots than there are.
//
// Under a rate limit, free slots take no more than what it lets pass meanwhile.
func (w *window) room(d depth, limit, guard int, rate batch.RateLimit, now time.Time) int {
	if elapsed := now.Sub(w.since); elapsed >= sampleTime || d.delivered < w.last {
		rate := float64(0)
		if d.delivered >= w.last && !w.since.IsZero() {
			rate = float64(d.delivered-w.last) / elapsed.Seconds()
		}
		w.rate = max(rate, 0.8*w.rate)
		w.last, w.since = d.delivered, now
	}
	refill := w.refillTime().Seconds()
	want := minDepth + int(w.rate*refill)
	if w.callTime > 0 {
		want = min(want, 1+int(float64(limit)*refill/w.callTime.Seconds()))
	}
	free := max(limit-d.unacked, 0)
	if rate != (batch.RateLimit{}) {
		free = min(free, int(math.Ceil(2*w.rate*rateTime.Seconds()))+minDepth)
	}
	if rate.Requests > 0 {
		free = min(free, int(math.Ceil(float64(rate.Requests)*rateTime.Minutes())))
	}
	want += free
	return min(want, guard-d.unacked) - d.pending
}

// refillTime is for how long the window should last. It may be half empty when the
// next look begins.
func (w *window) refillTime() time.Duration {
	return min(max(2*w.refill, minRefillTime), maxRefillTime)
}
