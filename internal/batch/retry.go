package batch

import (
	"math"
	"math/bits"
	"time"
)

// RetryPolicy decides whether and when a failed attempt is repeated.
type RetryPolicy struct {
	// MaxRetries is the number of retries before giving up; nil: no cap.
	MaxRetries *int
	// MaxNotFoundRetries is that after a NotFound; nil: as Reasons says.
	MaxNotFoundRetries *int
	// StopBeforeDeadline is how long before the batch expires retries stop;
	// negative: they go on that long after it; nil: the deadline plays no part.
	StopBeforeDeadline *time.Duration
	// Backoff is the delay before the first retry.
	Backoff time.Duration
	// Factor multiplies the delay at each further retry. Zero counts as one.
	Factor uint64
	// MaxBackoff caps the delay, before jitter and Retry-After.
	MaxBackoff time.Duration
}

// Jitter is the largest part of a backoff that is added to it at random, so
// that requests which failed together do not return together.
const Jitter = 0.2

// Denied says why a retry was refused.
type Denied string

// Why a retry is refused. The empty string means that it is granted.
const (
	Granted            Denied = ""
	DeniedNotRetriable Denied = "not_retriable"
	DeniedMaxRetries   Denied = "max_retries"
	DeniedDeadline     Denied = "deadline"
)

// Delay is the backoff before retry n (0-based), without jitter:
// min(Backoff × Factor^n, MaxBackoff), in integers that saturate.
func (p RetryPolicy) Delay(n int) time.Duration {
	delay, factor := uint64(max(p.Backoff, 0)), max(p.Factor, 1)
	limit := uint64(max(p.MaxBackoff, 0))
	for ; n > 0 && delay < limit && factor > 1 && delay > 0; n-- {
		hi, lo := bits.Mul64(delay, factor)
		if hi != 0 {
			lo = math.MaxUint64
		}
		delay = lo
	}
	return time.Duration(min(delay, limit))
}

// Next decides about the retry that follows the given attempt (0-based).
//
// remaining is the time left until the batch expires, by Postgres's clock.
// retryAfter is what the upstream asked for, zero if nothing; it lengthens
// the backoff and never shortens it. random is in [0, 1) and spreads the
// jitter. The retry is refused when attempt ≥ MaxRetries, or when the delay
// would end at or after the deadline less StopBeforeDeadline.
func (p RetryPolicy) Next(reason Reason, attempt int, remaining, retryAfter time.Duration, random float64) (time.Duration, Denied) {
	info, _ := reason.info()
	if !info.Retriable {
		return 0, DeniedNotRetriable
	}
	most := info.MaxRetries
	if reason == NotFound && p.MaxNotFoundRetries != nil {
		most = *p.MaxNotFoundRetries
	}
	if info.MaxRetries > 0 && attempt >= most {
		return 0, DeniedMaxRetries
	}
	if p.MaxRetries != nil && attempt >= *p.MaxRetries {
		return 0, DeniedMaxRetries
	}
	delay := max(p.Jittered(attempt, random), retryAfter)
	if p.StopBeforeDeadline != nil && delay >= subtract(remaining, *p.StopBeforeDeadline) {
		return 0, DeniedDeadline
	}
	return delay, Granted
}

// Jittered returns the backoff before the retry that follows an attempt, with its
// jitter. random is in [0, 1).
func (p RetryPolicy) Jittered(attempt int, random float64) time.Duration {
	delay := p.Delay(attempt)
	return delay + min(time.Duration(float64(delay)*Jitter*random), math.MaxInt64-delay)
}

// subtract is a − b, which saturates.
func subtract(a, b time.Duration) time.Duration {
	d := a - b
	switch {
	case b > 0 && d > a:
		return math.MinInt64
	case b < 0 && d < a:
		return math.MaxInt64
	}
	return d
}
