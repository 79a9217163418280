package rate

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv/effort"
)

// TestNoWindowIsAboveTheLimit plays daemons that come, go and die, with work and
// without, requests of any size, calls of any length, a broker that is late,
// loses answers and loses its bucket, and clocks that differ.
func TestNoWindowIsAboveTheLimit(t *testing.T) {
	t.Parallel()
	seeds := uint64(30)
	if testing.Short() {
		seeds = 8
	}
	if effort.Raced {
		seeds = 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { playFaults(t, seed) })
		})
	}
}

func playFaults(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	limit := batch.RateLimit{Requests: 1 + rng.Int64N(900)}
	if rng.IntN(3) > 0 {
		limit.Tokens = 1000 + rng.Int64N(200_000)
		if rng.IntN(2) == 0 {
			limit.Requests = 0
		}
	}
	b := &simBucket{
		rng: rand.New(rand.NewPCG(seed, 9)), lossy: rng.IntN(2) == 0, entries: make(map[string]revision),
		ahead: time.Duration(rng.Int64N(int64(time.Hour))) - 30*time.Minute,
	}
	longest := time.Duration(1 + rng.Int64N(int64(200*time.Second)))
	largest := 10 + rng.Int64N(max(limit.Tokens, 20))
	factor := 1 + rng.Int64N(8)
	next := func(r *rand.Rand) simCall {
		used := 1 + r.Int64N(largest)
		if r.IntN(10) > 0 {
			used = min(used, 1+r.Int64N(200))
		}
		return simCall{estimated: used * factor, used: min(used, max(limit.Tokens, 1)), takes: time.Duration(r.Int64N(int64(longest)))}
	}
	seen := &arrivals{}
	var stops []context.CancelFunc
	began := time.Now()
	for n := uint64(0); time.Since(began) < 6*time.Minute; n++ {
		switch {
		case len(stops) == 0, len(stops) < 5 && rng.IntN(3) == 0:
			stops = append(stops, startPod(t, b, seed*1000+n, limit, seen, 1+rng.IntN(40), next))
		case rng.IntN(2) == 0:
			i := rng.IntN(len(stops))
			stops[i]()
			stops = append(stops[:i], stops[i+1:]...)
		case rng.IntN(3) == 0:
			pass(3 * time.Second) // every daemon has seen the bucket
			b.lose()
			pass(3 * time.Second)
		}
		pass(time.Duration(rng.Int64N(int64(25 * time.Second))))
	}
	for _, stop := range stops {
		stop()
	}
	pass(longest + time.Minute)
	worst := seen.worst()
	if limit.Requests > 0 && worst.Requests > limit.Requests || limit.Tokens > 0 && worst.Tokens > limit.Tokens {
		t.Errorf("a window has %d requests and %d tokens, above %s", worst.Requests, worst.Tokens, limit)
	}
	if len(seen.calls) == 0 {
		t.Errorf("nothing was called under %s", limit)
	}
}
