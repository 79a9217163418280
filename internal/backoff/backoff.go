// Package backoff paces whatever is tried again or looked at again: an
// exponential backoff for tries that fail, and jitter for polls, so that what
// began together does not go on together.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pause between tries of one thing. Each pause is drawn from
// half to one and a half times a step, which starts at Min and doubles up to
// Max. It is used by one goroutine.
type Backoff struct {
	Min, Max time.Duration
	step     time.Duration
}

// New returns a Backoff whose steps go from min to max.
func New(min, max time.Duration) *Backoff { return &Backoff{Min: min, Max: max} }

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	step := max(b.step, b.Min)
	b.step = min(2*step, b.Max)
	return step/2 + rand.N(step+1)
}

// Reset makes the next pause the shortest again. Call it after a success.
func (b *Backoff) Reset() { b.step = 0 }

// Wait pauses until the next try. It returns the context's cause if that ends
// first, and nil otherwise.
func (b *Backoff) Wait(ctx context.Context) error {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// Jitter returns an interval for the next poll: d, or up to an eighth of it
// less or more.
func Jitter(d time.Duration) time.Duration { return d - d/8 + rand.N(d/4+1) }
