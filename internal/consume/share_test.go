package consume

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// However the limit is divided among consumers and whichever owner's requests fail, half
// of the model's places in the stream are free of what waits, and of the rest
// one owner has an eighth.
func TestShareLeavesPlaces(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 2000).Draw(t, "limit")
		var shares []*share
		var standings []slots.Standing
		for left := limit; left > 0; {
			held := rapid.IntRange(1, left).Draw(t, "held")
			left -= held
			shares = append(shares, new(share))
			standings = append(standings, slots.Standing{Limit: limit, Held: held})
		}
		owners := rapid.IntRange(1, 12).Draw(t, "owners")
		now := time.Now()
		waiting, of := 0, make(map[string]int)
		for range 2 * streams.MaxAckPending(limit) / max(owners/2, 1) {
			for o := range owners {
				owner := string(rune('a' + o))
				i := rapid.IntRange(0, len(shares)-1).Draw(t, "consumer")
				if shares[i].take(owner, now, now.Add(time.Hour), standings[i]) {
					waiting++
					of[owner]++
				}
			}
			if waiting > 50 {
				break
			}
		}
		for i := range shares {
			for o := range owners {
				owner := string(rune('a' + o))
				for shares[i].take(owner, now, now.Add(time.Hour), standings[i]) {
					waiting++
					of[owner]++
				}
			}
		}
		most := streams.MaxAckPending(limit)
		if waiting > most/waitingPart {
			t.Fatalf("%d messages of %d wait", waiting, most)
		}
		for owner, n := range of {
			if n > most/ownerWaitingPart {
				t.Fatalf("%d messages of %s wait, of %d", n, owner, most)
			}
		}
		// When they are over there are places again.
		for i := range shares {
			if streams.MaxAckPending(limit)*standings[i].Held/limit >= ownerWaitingPart &&
				!shares[i].take("z", now.Add(2*time.Hour), now.Add(3*time.Hour), standings[i]) {
				t.Fatal("a place is taken by a backoff that is over")
			}
		}
	})
}

func TestNothingWaitsWithoutSlots(t *testing.T) {
	t.Parallel()
	var s share
	now := time.Now()
	if s.take("a", now, now.Add(time.Second), slots.Standing{Limit: 10}) {
		t.Error("a consumer that holds no slot leaves messages in the stream to wait")
	}
}

// An owner whose requests all fail stops nobody: what waits out its backoff
// leaves the others places in the stream.
func TestFailingOwnerStopsNobody(t *testing.T) {
	t.Parallel()
	const limit, failing, good = 4, 1200, 100
	for name, longest := range map[string]time.Duration{
		"backoffs too long for the stream": time.Minute, "more than a share": 2 * never,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: limit}))
			c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
				if strings.HasPrefix(c.customID, "bad") {
					w.WriteHeader(http.StatusInternalServerError)
				}
			})
			c.start(func(cfg *Config) {
				cfg.Retry = batch.RetryPolicy{Backoff: never, MaxBackoff: never}
				cfg.MaxStreamBackoff = longest
			})
			bad := lines(failing, testModel)
			for i := range bad {
				bad[i].CustomID = "bad" + bad[i].CustomID
			}
			c.Begin(bad, func(n *postgres.NewBatch) { n.CreatedBy = "alice" })
			testenv.Steadily(t, "all of alice's have failed once", func() (int64, bool) {
				failed := c.Count(`SELECT count(*) FROM requests WHERE attempt = 1`)
				return failed, failed == failing
			})
			// Acks are on their way for a moment after the writes that they follow.
			most := streams.MaxAckPending(limit) / ownerWaitingPart
			until(t, fmt.Sprintf("at most %d messages of alice's wait in the stream", most), func() bool {
				info, err := c.Stream.Consumer(t.Context(), streams.ConsumerName(testModel))
				return err == nil && info.CachedInfo().NumAckPending <= most
			})
			for customID, r := range c.AwaitEnd(c.Begin(lines(good, testModel), func(n *postgres.NewBatch) { n.CreatedBy = "bob" })) {
				if r.State != batch.Completed || r.Attempts != 1 {
					t.Fatalf("%s is %s after %d attempts", customID, r.State, r.Attempts)
				}
			}
		})
	}
}

// A retry that waits in Postgres keeps its count and is called again when its
// time has come.
func TestRetryFromPostgres(t *testing.T) {
	t.Parallel()
	const pause = 300 * time.Millisecond
	c := newCluster(t)
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) {
		if c.nth < 2 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r := c.start(func(cfg *Config) {
		cfg.Retry = batch.RetryPolicy{Backoff: pause, MaxBackoff: pause}
		cfg.MaxStreamBackoff = time.Millisecond
	})
	for customID, got := range c.AwaitEnd(c.Begin(lines(5, testModel))) {
		calls := c.endpoint.of(customID)
		if got.State != batch.Completed || got.Attempts != 3 || len(calls) != 3 {
			t.Fatalf("%s is %s after %d attempts and %d calls, want 3", customID, got.State, got.Attempts, len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if d := calls[i].at.Sub(calls[i-1].at); d < pause || calls[i].attempt != i {
				t.Errorf("%s: call %d came %v after the one before, as attempt %d", customID, i, d, calls[i].attempt)
			}
		}
	}
	if s := r.Stats(); s.Retried != 10 || s.Fenced != 0 {
		t.Errorf("stats are %+v, want 10 retried", s)
	}
	until(t, "the stream is empty", func() bool { return c.Queued() == 0 })
}
