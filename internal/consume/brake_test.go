package consume

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// While an endpoint answers at once that it is overloaded, calls become fewer, and what
// waits is not called through.
func TestOverloadIsNotCalledFaster(t *testing.T) {
	t.Parallel()
	for _, status := range []int{529, http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			const requests, limit, most = 400, 4, 100
			c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
			var mu sync.Mutex
			var began time.Time
			refused := 0
			c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, _ call) {
				mu.Lock()
				defer mu.Unlock()
				if began.IsZero() {
					began = time.Now()
				}
				if time.Since(began) < time.Second {
					refused++
					w.WriteHeader(status)
				}
			})
			c.start()
			for customID, r := range c.AwaitEnd(c.Begin(lines(requests, testModel))) {
				if r.State != batch.Completed {
					t.Errorf("%s is %s", customID, r.State)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if refused > most { // each of 4 slots is kept for 50 ms, then for twice as long
				t.Errorf("%d calls of %d requests were made in a second of overload, want at most %d", refused, requests, most)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		usual, took time.Duration
		rounds      int64
		want        time.Duration
	}{
		{0, 0, 0, unknownCall},
		{100 * time.Millisecond, 0, 0, 100 * time.Millisecond},
		{100 * time.Millisecond, 30 * time.Millisecond, 0, 70 * time.Millisecond},
		{100 * time.Millisecond, time.Second, 0, 0},
		{100 * time.Millisecond, 0, 1, 200 * time.Millisecond},
		{100 * time.Millisecond, 0, 3, 800 * time.Millisecond},
		{100 * time.Millisecond, 0, 4, maxBrake},
		{100 * time.Millisecond, 0, 1 << 60, maxBrake},
		{5 * time.Second, 0, 9, 5 * time.Second},
		{time.Minute, 0, 0, maxSlowBrake},
	} {
		if got := keep(test.usual, test.took, test.rounds, 0); got != test.want {
			t.Errorf("a slot is kept for %v after a call of %v where %v are usual, in round %d; want %v", got, test.took, test.usual, test.rounds, test.want)
		}
	}
	if got := keep(time.Second, 0, 0, 1); got <= time.Second || got > 1200*time.Millisecond {
		t.Errorf("spread to %v", got)
	}
}
