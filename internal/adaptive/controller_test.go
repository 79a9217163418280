package adaptive_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"fusillade/internal/adaptive"
)

// From a low start the knee is found within a minute, and never much is waiting in
// the engine.
func TestKneeIsFound(t *testing.T) {
	alone(t)
	for _, knee := range some([]int{64, 2, 8, 16, 32, 50, 73, 100}) {
		for _, seconds := range []float64{0.05, 0.2, 1, 1.5} {
			for _, deviation := range []float64{0, 0.1, 0.2} {
				for seed := range seeds(3) {
					name := fmt.Sprintf("%d of %gs ± %g %%, seed %d", knee, seconds, 100*deviation, seed)
					s := &simulation{knee: fixed(knee), work: noisy(seconds, deviation*seconds), seed: seed}
					if deviation == 0 && seed > 0 || deviation > 0.1 && seconds > 1 {
						continue
					}
					s.run(t, 180)
					best := float64(knee) / seconds
					least, most := 0.95, 1.3*float64(knee)+1
					if deviation > 0.1 { // a step may be misjudged
						least, most = 0.9, 1.5*float64(knee)
					}
					if got := s.throughput(60, 180) / best; got < least && knee >= 8 {
						t.Errorf("%s: %.1f %% of the best throughput", name, 100*got)
					}
					if got := s.peak(20, 180); float64(got) > most+float64(min(32/knee, 4)) {
						t.Errorf("%s: %d in flight", name, got)
					}
				}
			}
		}
	}
}

// A capacity that is halved or doubled is followed within a minute.
func TestCapacityChanges(t *testing.T) {
	alone(t)
	for _, seconds := range []float64{0.2, 1} {
		for _, refuses := range []bool{false, true} {
			for _, deviation := range []float64{0, 0.2} {
				for seed := range uint64(4) {
					if deviation == 0 && seed > 0 {
						continue
					}
					name := fmt.Sprintf("%gs ± %g %%, refuses %t, seed %d", seconds, 100*deviation, refuses, seed)
					capacity := func(now float64) int {
						switch {
						case now < 120:
							return 64
						case now < 240:
							return 32
						}
						return 64
					}
					s := &simulation{knee: capacity, work: noisy(seconds, deviation*seconds), seed: seed}
					if refuses {
						s.refuse = capacity
					}
					s.run(t, 360)
					for _, part := range []struct{ from, to, knee int }{{60, 120, 64}, {180, 240, 32}, {300, 360, 64}} {
						best := float64(part.knee) / seconds
						if got := s.throughput(part.from, part.to) / best; got < 0.95 {
							t.Errorf("%s: %.1f %% of the throughput of %d", name, 100*got, part.knee)
						}
						if got := s.peak(part.from, part.to); float64(got) > 1.3*float64(part.knee)+2 {
							t.Errorf("%s: %d in flight at a knee of %d", name, got, part.knee)
						}
					}
					if got := s.refusedShare(0, 360); got > 0.02 {
						t.Errorf("%s: %.1f %% refused", name, 100*got)
					}
				}
			}
		}
	}
}

// An endpoint that refuses what is too much is filled, and few calls are refused:
// one that refuses what it cannot work on at once, and one that queues a fifth more.
func TestRefusals(t *testing.T) {
	alone(t)
	for _, knee := range some([]int{64, 8, 1, 5, 20, 200, 2000}) {
		for _, seconds := range []float64{0.05, 0.2, 1, 5, 20} {
			for _, above := range []float64{1, 1.2} {
				for _, pause := range []time.Duration{0, time.Second} {
					for seed := range seeds(2) {
						if knee >= 2000 && (seconds < 1 || seed > 0 || pause > 0) {
							continue
						}
						name := fmt.Sprintf("%d of %gs, refused above %g times that, pause %v, seed %d", knee, seconds, above, pause, seed)
						s := &simulation{
							knee: fixed(knee), refuse: fixed(int(above * float64(knee))), work: noisy(seconds, 0.1*seconds), pause: pause, seed: seed, most: 4000,
						}
						lasts := int(max(300, 150*seconds))
						s.run(t, float64(lasts))
						if got := s.refusedShare(0, lasts); got > 0.02 && knee > 5 || got > 0.06 {
							t.Errorf("%s: %.1f %% refused", name, 100*got)
						}
						if got := s.throughput(lasts/2, lasts) / (float64(knee) / seconds); got < 0.95 {
							t.Errorf("%s: %.1f %% of the best throughput", name, 100*got)
						}
					}
				}
			}
		}
	}
}

// Where an endpoint counts calls for a moment longer than those who have the
// answers, and decisions take their time, single calls are refused below what it
// takes. That makes no large cuts: a few slots less are enough.
func TestStrayRefusals(t *testing.T) {
	alone(t)
	for _, most := range some([]int{64, 32, 200, 500}) {
		for _, seconds := range []float64{1, 5} {
			for seed := range seeds(4) {
				name := fmt.Sprintf("%d of %gs, seed %d", most, seconds, seed)
				s := &simulation{knee: fixed(most), refuse: fixed(most), work: noisy(seconds, 0.1*seconds), lingers: 0.01, takes: 0.1, seed: seed}
				lasts := int(max(300, 150*seconds))
				s.run(t, float64(lasts))
				if got := s.refusedShare(0, lasts); got > 0.02 {
					t.Errorf("%s: %.1f %% refused", name, 100*got)
				}
				if got := s.throughput(lasts*2/5, lasts) / (float64(most) / seconds); got < 0.95-1.5/float64(most) {
					t.Errorf("%s: %.1f %% of the best throughput", name, 100*got)
				}
			}
		}
	}
}

// Calls of half a minute are patiently waited for.
func TestLongCalls(t *testing.T) {
	t.Parallel()
	s := &simulation{knee: fixed(32), work: noisy(30, 5), seed: 1}
	s.run(t, 3000)
	if got := s.throughput(1200, 3000) / (32.0 / 30); got < 0.95 {
		t.Errorf("%.1f %% of the best throughput", 100*got)
	}
	if got := s.peak(0, 3000); got > 42 {
		t.Errorf("%d in flight", got)
	}
}

// A limit that is not used is not raised, and nothing is learned from it.
func TestUnusedLimitIsNotRaised(t *testing.T) {
	t.Parallel()
	s := &simulation{knee: fixed(64), work: equal(1), arrivals: 10, seed: 1}
	s.run(t, 600)
	for at, p := range s.points[:600] {
		if p.limit > 24 {
			t.Fatalf("limit %d after %d s, with 10 calls in flight", p.limit, at)
		}
	}
}

// mixture is of short answers and one in ten that is very long.
func mixture(r *rand.Rand) (seconds, tokens float64) {
	tokens = 20 + 30*r.ExpFloat64()
	if r.IntN(10) == 0 {
		tokens = 1000 + 1000*r.Float64()
	}
	return 0.01 * tokens * (0.95 + 0.1*r.Float64()), tokens
}

// Of a mixture of short and very long answers the tokens count, not the calls.
func TestMixtureOfLengths(t *testing.T) {
	t.Parallel()
	for seed := range seeds(5) {
		s := &simulation{knee: fixed(64), work: mixture, seed: seed}
		s.run(t, 600)
		if got := s.tokens(180, 600) / 6400; got < 0.93 {
			t.Errorf("seed %d: %.1f %% of the best throughput", seed, 100*got)
		}
		if got := s.peak(180, 600); got > 90 {
			t.Errorf("seed %d: %d in flight", seed, got)
		}
	}
}

// An engine that slows down as its batch grows is driven as far as that pays.
func TestSoftKnee(t *testing.T) {
	t.Parallel()
	for seed := range seeds(5) {
		s := &simulation{knee: fixed(128), work: noisy(1, 0.1), slower: func(n int) float64 { return 1 + float64(n)/128 }, seed: seed}
		s.run(t, 300)
		if got := s.throughput(120, 300) / 64; got < 0.8 {
			t.Errorf("seed %d: %.1f %% of the best throughput", seed, 100*got)
		}
		if got := s.peak(0, 300); got > 166 {
			t.Errorf("seed %d: %d in flight", seed, got)
		}
	}
}

// Failures that have nothing to do with the limit keep it low for a while, not for
// good.
func TestFailuresWhateverTheLimit(t *testing.T) {
	alone(t)
	for _, share := range []float64{0.005, 0.02, 0.05, 0.1} {
		for seed := range seeds(5) {
			s := &simulation{knee: fixed(64), work: noisy(0.2, 0.02), fails: share, seed: seed}
			s.run(t, 600)
			if got := s.throughput(300, 600) / 320; got < 0.8 {
				t.Errorf("%g %%, seed %d: %.1f %% of the best throughput", 100*share, seed, 100*got)
			}
		}
	}
}

// An endpoint that is away for a while takes the limit down, and it comes back.
func TestOutage(t *testing.T) {
	t.Parallel()
	away := func(now float64) int {
		if now > 120 && now < 150 {
			return 0
		}
		return 10000
	}
	s := &simulation{knee: fixed(64), refuse: away, work: noisy(0.5, 0.05), least: 2, seed: 1}
	s.run(t, 300)
	if got := s.points[149].limit; got > 4 {
		t.Errorf("limit %d during the outage", got)
	}
	if got := s.throughput(240, 300) / 128; got < 0.9 {
		t.Errorf("%.1f %% of the best throughput afterwards", 100*got)
	}
}

// Another controller goes on where one was, in the middle of anything.
func TestRestore(t *testing.T) {
	t.Parallel()
	for after := 5.0; after < 80; after += 7.3 {
		one := &simulation{knee: fixed(64), work: noisy(1, 0.1), seed: 3}
		one.run(t, after)
		two := &simulation{knee: fixed(64), work: noisy(1, 0.1), seed: 4, c: adaptive.Restore(1, 1000, one.c.Limit(), one.c.State())}
		two.run(t, 180)
		if got := two.throughput(60, 180) / 64; got < 0.95 {
			t.Errorf("after %.1f s: %.1f %% of the best throughput", after, 100*got)
		}
		if got := two.peak(0, 180); got > 83 {
			t.Errorf("after %.1f s: %d in flight", after, got)
		}
	}
}

// Bounds are kept, and moved while it runs.
func TestBounds(t *testing.T) {
	t.Parallel()
	s := &simulation{knee: fixed(64), work: equal(0.5), least: 8, most: 20, seed: 1}
	s.run(t, 60)
	if got := s.points[59].limit; got < 19 || got > 20 {
		t.Errorf("limit %d, want the most of 20", got)
	}
	s.c.Bound(2, 10)
	if d := s.c.Step(adaptive.Sample{Elapsed: time.Second}); d.Limit != 10 {
		t.Errorf("limit %d, want the new most of 10", d.Limit)
	}
	low := &simulation{knee: fixed(2), work: equal(0.5), least: 8, most: 20, seed: 1}
	low.run(t, 60)
	for at, p := range low.points[:60] {
		if p.limit < 8 && at > 0 {
			t.Fatalf("limit %d after %d s, want at least 8", p.limit, at)
		}
	}
}
