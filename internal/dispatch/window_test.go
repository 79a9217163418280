package dispatch

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/streams"
)

func TestWindowFillsAndIsFull(t *testing.T) {
	t.Parallel()
	const limit = 10
	guard := streams.MaxAckPending(limit)
	for name, tt := range map[string]struct {
		d    depth
		want int
	}{
		"nothing is there":                    {depth{}, limit + minDepth},
		"as much waits as there should":       {depth{pending: limit + minDepth}, 0},
		"all slots are used":                  {depth{unacked: limit}, minDepth},
		"all are used, and enough waits":      {depth{unacked: limit, pending: minDepth}, 0},
		"a message was taken":                 {depth{unacked: limit, pending: minDepth - 1}, 1},
		"some slots are free":                 {depth{unacked: limit - 3, pending: minDepth}, 3},
		"more is out than slots":              {depth{unacked: 5 * limit}, minDepth},
		"the guard has room for two":          {depth{unacked: guard - 2}, 2},
		"backoff fills the guard":             {depth{unacked: guard}, 0},
		"the limit was lowered under a guard": {depth{unacked: guard + 7, pending: 3}, -10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w window
			if got := w.room(tt.d, limit, guard, batch.RateLimit{}, time.Now()); got != tt.want {
				t.Errorf("room is %d, want %d", got, tt.want)
			}
		})
	}
}

// The faster messages are taken, the more wait; when they are taken slowly for
// a while, few do.
func TestWindowFollowsTheRate(t *testing.T) {
	t.Parallel()
	const limit, each = 10, 100 * time.Millisecond
	now := time.Now()
	var w window
	var delivered uint64
	room := func(taken uint64) int {
		now = now.Add(each)
		delivered += taken
		return w.room(depth{unacked: limit, delivered: delivered}, limit, streams.MaxAckPending(limit), batch.RateLimit{}, now)
	}
	room(0)
	if got, want := room(1000), minDepth+int(10_000*minRefillTime.Seconds()); got != want {
		t.Errorf("room is %d at 10,000 messages a second, want %d", got, want)
	}
	for range 50 {
		room(1)
	}
	if got, want := room(1), minDepth+int(10*minRefillTime.Seconds()); got != want {
		t.Errorf("room is %d at 10 messages a second, want %d", got, want)
	}
	// A consumer that was made anew counts from zero.
	delivered = 0
	if got, want := room(0), minDepth; got != want {
		t.Errorf("room is %d after the counts began anew, want %d", got, want)
	}
}

// The longer it takes to fill the window, the more wait.
func TestWindowFollowsTheRefill(t *testing.T) {
	t.Parallel()
	const limit = 10
	for refill, lasts := range map[time.Duration]time.Duration{
		0: minRefillTime, 10 * time.Millisecond: minRefillTime, 120 * time.Millisecond: 240 * time.Millisecond, time.Minute: maxRefillTime,
	} {
		now := time.Now()
		w := window{refill: refill}
		look := func(delivered uint64) int {
			return w.room(depth{unacked: limit, delivered: delivered}, limit, streams.MaxAckPending(limit), batch.RateLimit{}, now)
		}
		look(0)
		now = now.Add(time.Second)
		if got, want := look(1000), minDepth+int(1000*lasts.Seconds()); got != want {
			t.Errorf("room is %d at 1000 messages a second and a refill of %v, want %d", got, refill, want)
		}
	}
}

// The time of a refill is from the look that found room to the last message's
// confirmation, over several refills.
func TestRefilled(t *testing.T) {
	t.Parallel()
	var l lane
	for range 100 {
		l.refilled(200 * time.Millisecond)
	}
	if got := time.Duration(l.refill.Load()).Round(time.Millisecond); got != 200*time.Millisecond {
		t.Errorf("a refill takes %v, want 200ms", got)
	}
	l.refilled(0)
	if got := time.Duration(l.refill.Load()); got < 150*time.Millisecond || got >= 200*time.Millisecond {
		t.Errorf("after a quick one a refill takes %v", got)
	}
}

// Whatever is asked in whatever order: what would then wait is never more than
// what a limit and a rate account for, nor than the guard lets out, and free
// slots always find enough.
func TestWindowBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		var w window
		var delivered uint64
		var fastest float64
		for range rapid.IntRange(1, 30).Draw(t, "looks") {
			limit := rapid.IntRange(1, 2000).Draw(t, "limit")
			guard := streams.MaxAckPending(limit)
			step := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "step"))
			taken := uint64(rapid.IntRange(0, 5000).Draw(t, "taken"))
			now = now.Add(step)
			if rapid.IntRange(0, 20).Draw(t, "anew") == 0 {
				delivered = 0
			}
			delivered += taken
			d := depth{
				pending:   rapid.IntRange(0, 10000).Draw(t, "pending"),
				unacked:   rapid.IntRange(0, 2*guard).Draw(t, "unacked"),
				delivered: delivered,
			}
			room := w.room(d, limit, guard, batch.RateLimit{}, now)
			fastest = max(fastest, w.rate)
			waiting := d.pending + room
			if most := minDepth + limit + int(fastest*minRefillTime.Seconds()); waiting > most {
				t.Fatalf("%d would wait, at most %d are accounted for", waiting, most)
			}
			if waiting > guard-d.unacked {
				t.Fatalf("%d would wait, the guard lets out %d more", waiting, guard-d.unacked)
			}
			if least := min(max(limit-d.unacked, 0)+minDepth, guard-d.unacked); waiting < least {
				t.Fatalf("%d would wait, the free slots need %d", waiting, least)
			}
		}
	})
}
