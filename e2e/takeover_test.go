package e2e

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/mock"
)

// A consumer is killed while its calls take for ever, and the other one takes
// all of them over, whether or not it has slots free before the dead one's are
// dropped, and though its own calls do not end either.
func TestLongCallsAreTakenOver(t *testing.T) {
	t.Parallel()
	for name, of := range map[string]struct{ requests, limit int }{
		"no slot is free": {40, 40}, "slots are free": {40, 120}, "several hundred": {400, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, limit := of.requests, of.limit
			c := newCluster(t, mock.Settings{Latency: "hang"},
				fmt.Sprintf("FUSILLADE_DEFAULT_MODEL_CONCURRENCY=%d", limit))
			c.start("dispatcher")
			victim := c.start("consumer")
			id := c.createBatch(requests(t, n, "m"))
			poll(t, "all are called", func() bool { return c.mock.Stats().InFlight == int64(n) })
			c.start("consumer")
			poll(t, "two consumers run", func() bool {
				return c.count(`SELECT count(*) FROM daemons WHERE role = 'consumer' AND status = 'running'`) == 2
			})
			// The worst time to die is after a heartbeat.
			const beats = `SELECT (extract(epoch FROM last_heartbeat) * 1e6)::bigint FROM daemons WHERE pid = $1`
			last := c.count(beats, victim.PID())
			poll(t, "it has a heartbeat", func() bool { return c.count(beats, victim.PID()) != last })
			died := time.Now()
			victim.Kill()
			poll(t, "all are called again", func() bool {
				again := 0
				for customID, calls := range c.mock.CustomIDs() {
					if calls > 2 {
						t.Fatalf("%s was called %d times", customID, calls)
					}
					again += int(calls) - 1
				}
				return again == n
			})
			t.Logf("all run elsewhere %v after the kill, with a stale threshold of 6 s", time.Since(died).Round(time.Millisecond))
			if bad := c.count(`SELECT count(*) FROM requests WHERE takeovers <> 1`); bad != 0 {
				t.Errorf("%d requests do not count one takeover", bad)
			}
			c.check(id)
		})
	}
}

func (c *cluster) count(sql string, args ...any) (n int64) {
	c.t.Helper()
	if err := c.db.QueryRow(c.t.Context(), sql, args...).Scan(&n); err != nil {
		c.t.Fatal(err)
	}
	return n
}
