package rate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv/effort"
)

// simBucket is a bucket in virtual time, with a clock of its own, that answers
// late, loses answers and loses all that it has.
type simBucket struct {
	rng   *rand.Rand
	lossy bool
	slow  time.Duration // how long the way may take; 0: 15 ms

	mu      sync.Mutex
	entries map[string]revision
	last    uint64
	ahead   time.Duration // of its clock
}

var errAway = errors.New("the broker is away")

func (b *simBucket) time() time.Time { return time.Now().Round(0).Add(b.ahead) }

// travel is the way of a request or an answer.
func (b *simBucket) travel() (lost bool) {
	b.mu.Lock()
	d := time.Duration(b.rng.Int64N(int64(cmp.Or(b.slow, 15*time.Millisecond))))
	lost = b.lossy && b.rng.IntN(50) == 0
	b.mu.Unlock()
	pass(d)
	return lost
}

func (b *simBucket) get(_ context.Context, key string) (revision, error) {
	b.travel()
	b.mu.Lock()
	found, ok := b.entries[key]
	b.mu.Unlock()
	if b.travel() {
		return revision{}, errAway
	}
	if !ok {
		return revision{}, errMissing
	}
	return found, nil
}

func (b *simBucket) create(ctx context.Context, key string, value []byte) error {
	_, err := b.update(ctx, key, value, 0)
	return err
}

func (b *simBucket) update(_ context.Context, key string, value []byte, last uint64) (uint64, error) {
	if b.travel() {
		return 0, errAway // it was not done
	}
	b.mu.Lock()
	raced := b.entries[key].revision != last
	b.last++
	number := b.last
	if !raced {
		b.entries[key] = revision{value, number, b.time()}
	}
	b.mu.Unlock()
	if b.travel() {
		return 0, errAway // it may have been done
	}
	if raced {
		return 0, errRace
	}
	return number, nil
}

func (b *simBucket) now(context.Context) (time.Time, error) {
	b.travel()
	b.mu.Lock()
	at := b.time()
	b.mu.Unlock()
	b.travel()
	return at, nil
}

func (b *simBucket) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = make(map[string]revision)
}

// simCall is a request: what is estimated, what it uses, and how long that takes.
type simCall struct {
	estimated, used int64
	takes           time.Duration
}

// arrivals are what an endpoint has seen.
type arrivals struct {
	mu    sync.Mutex
	calls []arrival
}

type arrival struct {
	at     time.Time
	tokens int64
}

func (s *arrivals) add(a arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, a)
}

// worst is the most that any window has had.
func (s *arrivals) worst() (worst Amount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slicesByTime(s.calls)
	var sum Amount
	first := 0
	for _, c := range s.calls {
		sum = sum.plus(Amount{1, c.tokens})
		for c.at.Sub(s.calls[first].at) >= window {
			sum = sum.minus(Amount{1, s.calls[first].tokens})
			first++
		}
		worst = Amount{max(worst.Requests, sum.Requests), max(worst.Tokens, sum.Tokens)}
	}
	return worst
}

// between is what came in a time.
func (s *arrivals) between(from, to time.Time) (sum Amount) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if !c.at.Before(from) && c.at.Before(to) {
			sum = sum.plus(Amount{1, c.tokens})
		}
	}
	return sum
}

// simPod is a daemon that makes calls as its account lets it. Its waiting calls
// are made anew as they are taken, so there is always demand; at most so many a
// second if it is said.
type simPod struct {
	t     *testing.T
	rng   *rand.Rand
	next  func(*rand.Rand) simCall
	ahead int // calls that wait

	account *Account
	seen    *arrivals
	changed chan struct{}

	mu      sync.Mutex
	waiting []simCall
}

func startPod(t *testing.T, b bucket, seed uint64, l batch.RateLimit, seen *arrivals, waiting int, next func(*rand.Rand) simCall) (stop context.CancelFunc) {
	return startModels(t, b, seed, l, []*arrivals{seen}, waiting, next)
}

// startModels begins a daemon that has work of several models: one for each of the
// arrivals.
func startModels(t *testing.T, b bucket, seed uint64, l batch.RateLimit, seen []*arrivals, waiting int, next func(*rand.Rand) simCall) (stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	var id batch.DaemonID
	id[0], id[1] = byte(seed), byte(seed>>8)
	var mu sync.Mutex
	pods := make(map[*Account]*simPod)
	of := func(a *Account) *simPod {
		mu.Lock()
		defer mu.Unlock()
		return pods[a]
	}
	keeper := newKeeper(Config{Daemon: id, Log: slog.New(slog.DiscardHandler), Demand: func(a *Account) []int64 { return of(a).demand(a) }, Changed: func(a *Account) {
		select {
		case of(a).changed <- struct{}{}:
		default:
		}
	}}, b)
	for i, s := range seen {
		a := keeper.Model(batch.Model(fmt.Sprintf("m%d", i)), l)
		p := &simPod{t: t, rng: rand.New(rand.NewPCG(seed, uint64(i)+2)), next: next, ahead: waiting, account: a, seen: s, changed: make(chan struct{}, 1)}
		mu.Lock()
		pods[a] = p
		mu.Unlock()
	}
	go keeper.Run(ctx)
	for _, p := range pods {
		go p.run(ctx)
	}
	return cancel
}

func (p *simPod) demand(a *Account) (estimates []int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.waiting {
		estimates = append(estimates, a.Estimate(c.estimated))
	}
	return estimates
}

func (p *simPod) run(ctx context.Context) {
	for ctx.Err() == nil {
		p.mu.Lock()
		for len(p.waiting) < p.ahead {
			p.waiting = append(p.waiting, p.next(p.rng))
		}
		for len(p.waiting) > 0 {
			c := p.waiting[0]
			permit, ok := p.account.Take(c.estimated)
			if !ok {
				break
			}
			p.waiting = append(p.waiting[1:], p.next(p.rng))
			late := time.Duration(p.rng.Int64N(int64(300 * time.Millisecond)))
			go func() {
				pass(late)
				p.seen.add(arrival{time.Now(), c.used})
				pass(c.takes)
				if ctx.Err() == nil {
					permit.Settle(c.used)
				}
			}()
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-p.changed: // nothing else wakes what waits for a lease
		}
	}
}

func even5(r *rand.Rand) simCall {
	return simCall{estimated: 150 + r.Int64N(30), used: 100 + r.Int64N(20), takes: time.Second + time.Duration(r.Int64N(int64(time.Second)))}
}

// TestSteadyDemandUsesTheRate is the promise: three daemons of uneven load, of
// which one is killed and replaced, use at least 95 % of the limit for ten
// minutes, and no window has more than it.
func TestSteadyDemandUsesTheRate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit  batch.RateLimit
		next   func(*rand.Rand) simCall
		counts func(Amount) int64
	}{
		"requests":         {batch.RateLimit{Requests: 600}, even5, func(a Amount) int64 { return a.Requests }},
		"few requests":     {batch.RateLimit{Requests: 30}, even5, func(a Amount) int64 { return a.Requests }},
		"many requests":    {batch.RateLimit{Requests: 30_000}, even5, func(a Amount) int64 { return a.Requests }},
		"tokens":           {batch.RateLimit{Tokens: 100_000}, even5, func(a Amount) int64 { return a.Tokens }},
		"both, by tokens":  {batch.RateLimit{Requests: 6000, Tokens: 100_000}, even5, func(a Amount) int64 { return a.Tokens }},
		"both, by request": {batch.RateLimit{Requests: 600, Tokens: 100_000}, even5, func(a Amount) int64 { return a.Requests }},
		"tokens, overestimated": {batch.RateLimit{Tokens: 100_000}, func(r *rand.Rand) simCall {
			return simCall{estimated: 1100, used: 90 + r.Int64N(20), takes: 5 * time.Second}
		}, func(a Amount) int64 { return a.Tokens }},
	} {
		if effort.Raced && name != "requests" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := &simBucket{rng: rand.New(rand.NewPCG(7, 7)), entries: make(map[string]revision), ahead: -17 * time.Second}
				seen := &arrivals{}
				waiting := max(int(c.limit.Requests/60), 20)
				stops := []context.CancelFunc{
					startPod(t, b, 1, c.limit, seen, waiting, c.next), startPod(t, b, 2, c.limit, seen, 3, c.next), startPod(t, b, 3, c.limit, seen, waiting, c.next),
				}
				began := time.Now().Add(10 * time.Second) // it has learned how large answers are
				pass(4 * time.Minute)
				stops[0]()
				pass(10 * time.Second)
				stops = append(stops, startPod(t, b, 4, c.limit, seen, waiting, c.next))
				pass(6 * time.Minute)
				end := time.Now()
				for _, stop := range stops {
					stop()
				}
				pass(10 * time.Second) // until the last call has ended
				worst, all := seen.worst(), seen.between(began, end)
				limit := c.counts(Amount{c.limit.Requests, c.limit.Tokens})
				share := float64(c.counts(all)) / (float64(limit) * end.Sub(began).Minutes())
				t.Logf("used %.1f %%, the fullest window has %d requests and %d tokens", 100*share, worst.Requests, worst.Tokens)
				if c.counts(worst) > limit {
					t.Errorf("a window has %d, above the limit of %d", c.counts(worst), limit)
				}
				if share < 0.95 {
					t.Errorf("%.1f %% of the limit was used, want 95 %%", 100*share)
				}
			})
		})
	}
}

// A broker that answers late makes leases late and stops nothing: an account that
// is due again before the round of syncs ends is looked at in the next one.
func TestASlowBroker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limit := batch.RateLimit{Requests: 600}
		b := &simBucket{rng: rand.New(rand.NewPCG(3, 3)), slow: 120 * time.Millisecond, entries: make(map[string]revision)}
		models := []*arrivals{{}, {}, {}}
		stop := startModels(t, b, 1, limit, models, 100, even5)
		pass(2 * time.Minute)
		began := time.Now()
		pass(4 * time.Minute)
		ended := time.Now()
		stop()
		pass(10 * time.Second)
		for i, seen := range models {
			if got := seen.between(began, ended).Requests; got < 4*600/2 {
				t.Errorf("model %d: %d requests in four minutes of %s", i, got, limit)
			}
		}
	})
}
