package consume

import (
	"testing"
	"time"
)

// The longer a message is here before its call may begin, the more is fetched ahead.
func TestPrefetchFollowsTheLead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ lead, want time.Duration }{
		"not known yet":             {0, minPrefetchTime},
		"Postgres is near":          {20 * time.Millisecond, minPrefetchTime},
		"Postgres is busy":          {120 * time.Millisecond, 290 * time.Millisecond},
		"Postgres was away a while": {time.Minute, maxPrefetchTime},
	} {
		var l lead
		for range 500 {
			l.add(test.lead)
		}
		if got := l.prefetchTime().Round(time.Millisecond); got != test.want {
			t.Errorf("%s: work for %v is fetched ahead, want %v", name, got, test.want)
		}
	}
}

func TestLeadForgets(t *testing.T) {
	t.Parallel()
	l := lead{mean: time.Minute}
	for range 300 {
		l.add(10 * time.Millisecond)
	}
	if got := l.prefetchTime(); got != minPrefetchTime {
		t.Errorf("work for %v is fetched ahead long after Postgres was away, want %v", got, minPrefetchTime)
	}
}
