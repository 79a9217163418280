package bench

import (
	"testing"
	"time"
)

// A tenth that ends between two looks at the counters ends where a line between them
// passes it.
func TestPassedAt(t *testing.T) {
	t.Parallel()
	began := time.Unix(0, 0)
	for _, c := range []struct {
		from, to int64
		mark     int64
		want     time.Duration
	}{
		{0, 100, 50, time.Second},
		{0, 100, 100, 2 * time.Second},
		{80, 120, 90, 500 * time.Millisecond},
		{10, 10, 10, 2 * time.Second}, // nothing moved
	} {
		got := passedAt(instant{began, c.from}, instant{began.Add(2 * time.Second), c.to}, c.mark)
		if want := began.Add(c.want); !got.Equal(want) {
			t.Errorf("%d of %d to %d: %v, want %v", c.mark, c.from, c.to, got, want)
		}
	}
}

// The second batch of a run from file to output is a tenth of the first, but long
// enough to be measured, and no larger than the first.
func TestSecondBatch(t *testing.T) {
	t.Parallel()
	for requests, want := range map[int]int{300: 300, 50_000: secondMin, 10_000_000: 1_000_000} {
		if got := (&Options{Requests: requests}).second(); got != want {
			t.Errorf("of %d requests: %d, want %d", requests, got, want)
		}
	}
}
