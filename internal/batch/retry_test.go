package batch_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

const maxDuration = time.Duration(math.MaxInt64)

func TestDelay(t *testing.T) {
	t.Parallel()
	defaults := batch.RetryPolicy{Backoff: time.Second, Factor: 2, MaxBackoff: 10 * time.Second}
	for name, tt := range map[string]struct {
		policy batch.RetryPolicy
		n      int
		want   time.Duration
	}{
		"first":                  {defaults, 0, time.Second},
		"second":                 {defaults, 1, 2 * time.Second},
		"fourth":                 {defaults, 3, 8 * time.Second},
		"capped":                 {defaults, 4, 10 * time.Second},
		"capped for ever":        {defaults, math.MaxInt, 10 * time.Second},
		"before the first":       {defaults, -1, time.Second},
		"no factor":              {batch.RetryPolicy{Backoff: time.Second, MaxBackoff: time.Minute}, 9, time.Second},
		"factor one, many":       {batch.RetryPolicy{Backoff: time.Second, Factor: 1, MaxBackoff: time.Minute}, math.MaxInt, time.Second},
		"no backoff":             {batch.RetryPolicy{Factor: 2, MaxBackoff: time.Minute}, math.MaxInt, 0},
		"negative backoff":       {batch.RetryPolicy{Backoff: -1, Factor: 2, MaxBackoff: time.Minute}, 5, 0},
		"cap below the first":    {batch.RetryPolicy{Backoff: time.Minute, Factor: 2, MaxBackoff: time.Second}, 0, time.Second},
		"negative cap":           {batch.RetryPolicy{Backoff: time.Minute, Factor: 2, MaxBackoff: -1}, 0, 0},
		"product beyond 64 bits": {batch.RetryPolicy{Backoff: maxDuration, Factor: math.MaxUint64, MaxBackoff: maxDuration}, 3, maxDuration},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.policy.Delay(tt.n); got != tt.want {
				t.Errorf("Delay(%d) = %v, want %v", tt.n, got, tt.want)
			}
		})
	}
}

func genPolicy() *rapid.Generator[batch.RetryPolicy] {
	return rapid.Custom(func(t *rapid.T) batch.RetryPolicy {
		p := batch.RetryPolicy{
			Backoff:    genDuration().Draw(t, "backoff"),
			Factor:     rapid.OneOf(rapid.Uint64Range(0, 10), rapid.Uint64()).Draw(t, "factor"),
			MaxBackoff: genDuration().Draw(t, "max backoff"),
		}
		p.MaxRetries = rapid.OneOf(rapid.Just[*int](nil), rapid.Ptr(rapid.IntRange(0, 40), false)).Draw(t, "max retries")
		p.StopBeforeDeadline = rapid.Ptr(genDuration(), true).Draw(t, "stop before deadline")
		return p
	})
}

// genDuration returns all kinds of durations, most of them of a likely size.
func genDuration() *rapid.Generator[time.Duration] {
	return rapid.OneOf(
		rapid.Map(rapid.Int64Range(-int64(time.Hour), int64(24*time.Hour)), func(n int64) time.Duration { return time.Duration(n) }),
		rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) }),
		rapid.SampledFrom([]time.Duration{0, 1, -1, time.Second, maxDuration, math.MinInt64}),
	)
}

// reference is min(Backoff × Factor^n, MaxBackoff) in numbers without end.
func reference(p batch.RetryPolicy, n int) time.Duration {
	delay := big.NewInt(max(int64(p.Backoff), 0))
	factor := new(big.Int).SetUint64(max(p.Factor, 1))
	delay.Mul(delay, new(big.Int).Exp(factor, big.NewInt(int64(max(n, 0))), nil))
	limit := big.NewInt(max(int64(p.MaxBackoff), 0))
	if delay.Cmp(limit) > 0 {
		delay = limit
	}
	return time.Duration(delay.Int64())
}

func TestDelayEqualsReference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := genPolicy().Draw(t, "policy")
		n := rapid.IntRange(0, 200).Draw(t, "n")
		got := p.Delay(n)
		if want := reference(p, n); got != want {
			t.Fatalf("Delay(%d) = %v, want %v", n, got, want)
		}
		if next := p.Delay(n + 1); next < got {
			t.Fatalf("Delay(%d) = %v is shorter than the %v before", n+1, next, got)
		}
	})
}

func TestNext(t *testing.T) {
	t.Parallel()
	policy := func(maxRetries int, stop time.Duration) batch.RetryPolicy {
		return batch.RetryPolicy{MaxRetries: &maxRetries, StopBeforeDeadline: &stop, Backoff: time.Second, Factor: 2, MaxBackoff: 10 * time.Second}
	}
	unlimited := batch.RetryPolicy{Backoff: time.Second, Factor: 2, MaxBackoff: 10 * time.Second}
	for name, tt := range map[string]struct {
		policy     batch.RetryPolicy
		reason     batch.Reason
		attempt    int
		remaining  time.Duration
		retryAfter time.Duration
		random     float64
		want       time.Duration
		denied     batch.Denied
	}{
		"granted":                          {policy: policy(3, 0), remaining: time.Hour, want: time.Second},
		"with jitter":                      {policy: policy(3, 0), remaining: time.Hour, random: 0.5, want: 1100 * time.Millisecond},
		"not retriable":                    {policy: unlimited, reason: batch.BuilderError, denied: batch.DeniedNotRetriable},
		"last retry":                       {policy: policy(3, 0), attempt: 2, remaining: time.Hour, want: 4 * time.Second},
		"no retry left":                    {policy: policy(3, 0), attempt: 3, remaining: time.Hour, denied: batch.DeniedMaxRetries},
		"not found":                        {policy: unlimited, reason: batch.NotFound, attempt: 59, want: 10 * time.Second},
		"not found too often":              {policy: unlimited, reason: batch.NotFound, attempt: 60, denied: batch.DeniedMaxRetries},
		"not found, another bound":         {policy: batch.RetryPolicy{MaxNotFoundRetries: new(int), Backoff: time.Second}, reason: batch.NotFound, denied: batch.DeniedMaxRetries},
		"not implemented, too often":       {policy: unlimited, reason: batch.NotImplemented, attempt: 10, denied: batch.DeniedMaxRetries},
		"no retries at all":                {policy: policy(0, 0), remaining: time.Hour, denied: batch.DeniedMaxRetries},
		"no cap":                           {policy: unlimited, attempt: 1_000_000, want: 10 * time.Second},
		"just before the deadline":         {policy: policy(3, 0), remaining: time.Second + 1, want: time.Second},
		"at the deadline":                  {policy: policy(3, 0), remaining: time.Second, denied: batch.DeniedDeadline},
		"after the deadline":               {policy: policy(3, 0), remaining: -time.Second, denied: batch.DeniedDeadline},
		"before the stop":                  {policy: policy(3, time.Minute), remaining: time.Minute + time.Second + 1, want: time.Second},
		"at the stop":                      {policy: policy(3, time.Minute), remaining: time.Minute + time.Second, denied: batch.DeniedDeadline},
		"in the buffer after the deadline": {policy: policy(3, -time.Minute), remaining: -58 * time.Second, want: time.Second},
		"at the end of the buffer":         {policy: policy(3, -time.Minute), remaining: -59 * time.Second, denied: batch.DeniedDeadline},
		"no deadline":                      {policy: unlimited, remaining: -24 * time.Hour, want: time.Second},
		"retry after is longer":            {policy: policy(3, 0), remaining: time.Hour, retryAfter: time.Minute, want: time.Minute},
		"retry after is shorter":           {policy: policy(3, 0), remaining: time.Hour, retryAfter: time.Millisecond, want: time.Second},
		"retry after beyond the cap":       {policy: policy(3, 0), attempt: 2, remaining: time.Hour, retryAfter: 30 * time.Second, want: 30 * time.Second},
		"retry after the deadline":         {policy: policy(3, 0), remaining: time.Minute, retryAfter: time.Minute, denied: batch.DeniedDeadline},
		"the jitter passes the deadline":   {policy: policy(3, 0), remaining: 1050 * time.Millisecond, random: 0.5, denied: batch.DeniedDeadline},
		"jitter of the longest backoff": {
			policy: batch.RetryPolicy{Backoff: maxDuration, MaxBackoff: maxDuration}, random: 0.99, want: maxDuration,
		},
		"far beyond any deadline": {policy: policy(3, maxDuration), remaining: math.MinInt64, denied: batch.DeniedDeadline},
		"endless buffer":          {policy: policy(3, math.MinInt64), remaining: time.Hour, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.reason == "" {
				tt.reason = batch.RetriableHTTPStatus
			}
			got, denied := tt.policy.Next(tt.reason, tt.attempt, tt.remaining, tt.retryAfter, tt.random)
			if got != tt.want || denied != tt.denied {
				t.Errorf("Next = %v, %q, want %v, %q", got, denied, tt.want, tt.denied)
			}
		})
	}
}

func TestNextProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := genPolicy().Draw(t, "policy")
		attempt := rapid.IntRange(0, 50).Draw(t, "attempt")
		remaining := genDuration().Draw(t, "remaining")
		retryAfter := genDuration().Draw(t, "retry after")
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		got, denied := p.Next(batch.NetworkError, attempt, remaining, retryAfter, random)

		base := p.Delay(attempt)
		// At most 20 % more, but for what floating point numbers round.
		most := new(big.Int).Mul(big.NewInt(int64(base)), big.NewInt(12))
		most.Div(most, big.NewInt(10))
		most.Add(most, new(big.Int).Rsh(most, 50))
		if asked := big.NewInt(int64(retryAfter)); asked.Cmp(most) > 0 {
			most = asked
		}
		exhausted := p.MaxRetries != nil && attempt >= *p.MaxRetries
		// late reports whether a delay would end too late.
		late := func(delay *big.Int) bool {
			if p.StopBeforeDeadline == nil {
				return false
			}
			left := new(big.Int).Sub(big.NewInt(int64(remaining)), big.NewInt(int64(*p.StopBeforeDeadline)))
			return delay.Cmp(left) >= 0 || delay.Cmp(big.NewInt(math.MaxInt64)) >= 0 // as good as never
		}
		least := big.NewInt(int64(max(base, retryAfter)))
		switch {
		case exhausted != (denied == batch.DeniedMaxRetries):
			t.Fatalf("attempt %d: denied %q", attempt, denied)
		case denied == batch.DeniedDeadline && !late(most):
			t.Fatalf("refused for a deadline that it meets")
		case denied == batch.Granted && late(big.NewInt(int64(got))):
			t.Fatalf("granted after %v with %v left", got, remaining)
		case !exhausted && denied == batch.Granted && late(least):
			t.Fatalf("granted though even the shortest delay is too long")
		case denied != batch.Granted && got != 0:
			t.Fatalf("refused with a delay of %v", got)
		case denied == batch.Granted && (big.NewInt(int64(got)).Cmp(least) < 0 || big.NewInt(int64(got)).Cmp(most) > 0):
			t.Fatalf("delay %v is not within %v and %v", got, least, most)
		}
	})
}

func TestNextIsRandomUpToTheJitter(t *testing.T) {
	t.Parallel()
	p := batch.RetryPolicy{Backoff: 10 * time.Second, MaxBackoff: 10 * time.Second}
	least, _ := p.Next(batch.Timeout, 0, 0, 0, 0)
	most, _ := p.Next(batch.Timeout, 0, 0, 0, math.Nextafter(1, 0))
	if least != 10*time.Second || most < 11999*time.Millisecond || most > 12*time.Second {
		t.Errorf("delays are from %v to %v, want 10 s to just below 12 s", least, most)
	}
}
