package rate

import (
	"log/slog"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"fusillade/internal/batch"
)

// An older entry is put back: what a daemon knows of the minute still counts.
func TestEntryGoesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &simBucket{rng: rand.New(rand.NewPCG(1, 1)), entries: make(map[string]revision)}
		k := newKeeper(Config{
			Daemon: batch.DaemonID{1}, Demand: func(*Account) []int64 { return make([]int64, 4) },
			Changed: func(*Account) {}, Log: slog.New(slog.DiscardHandler),
		}, b)
		a := k.Model("m", batch.RateLimit{Requests: 60})
		spend := func(requests int) {
			for spent := 0; spent < requests; {
				k.sync(t.Context(), a)
				for {
					if _, ok := a.Take(0); !ok {
						break
					}
					spent++
				}
				pass(syncInterval)
			}
		}
		spend(10)
		old := maps.Clone(b.entries)
		spend(20)
		before := a.used.Requests
		b.mu.Lock()
		b.entries = old
		b.mu.Unlock()
		k.sync(t.Context(), a)
		if after := a.used.Requests; after < before {
			t.Errorf("%d requests of the minute are known of after the entry went back, %d before", after, before)
		}
	})
}
