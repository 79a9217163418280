package dispatch

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

func quickDeath(cfg *Config) { cfg.StaleThreshold = 10 * time.Second }

// process lets a daemon take that many messages and start them, and never
// answer.
func (c *cluster) process(d batch.DaemonID, n int) {
	c.T.Helper()
	consumer, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(testModel))
	if err != nil {
		c.T.Fatal(err)
	}
	var deliveries []postgres.Delivery
	until(c.T, "it has its messages", func() bool {
		fetched, err := consumer.FetchNoWait(n - len(deliveries))
		if err != nil {
			c.T.Fatal(err)
		}
		for msg := range fetched.Messages() {
			_, id, err := streams.ParseRequestSubject(msg.Subject())
			if err != nil {
				c.T.Fatal(err)
			}
			deliveries = append(deliveries, postgres.Delivery{ID: id, Claim: 1, Number: 1})
		}
		c.Hint(streams.HintDrained(testModel))
		return len(deliveries) == n
	})
	rules := postgres.StartRules{Daemon: d, ProcessingTimeout: never, StaleThreshold: never}
	if _, err := c.Store.Start(c.T.Context(), rules, deliveries); err != nil {
		c.T.Fatal(err)
	}
}

// What dead daemons were processing is published anew though its leases never
// run out, in pages, and their slots are free; what others process is left
// alone, and so is what is only claimed.
func TestReclaimFromTheDead(t *testing.T) {
	t.Parallel()
	const n = 10
	for name, die := range map[string]string{
		"its heartbeats have ended": `UPDATE daemons SET last_heartbeat = now() - interval '11 s' WHERE id = $1`,
		"it was stopping":           `UPDATE daemons SET last_heartbeat = now() - interval '11 s', status = 'stopping' WHERE id = $1`,
		"it said so":                `UPDATE daemons SET status = 'dead', stopped_at = now() WHERE id = $1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			leader, _ := c.start(quickDeath, func(cfg *Config) { cfg.ReclaimBatchSize = 3; cfg.DefaultLimit = 40 })
			id := c.Begin(lines(n+4, testModel))
			c.queued(n + 4)
			alive, dead := c.daemon(), c.daemon()
			c.Exec(`UPDATE daemons SET last_heartbeat = now() + interval '1 h', status = 'running'`)
			c.process(alive, 2)
			c.process(dead, n)
			kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
			if err != nil {
				t.Fatal(err)
			}
			until(t, "the dead hold slots", func() bool {
				entry := slots.Entry{Model: testModel, Limit: 40, Holders: map[string]slots.Holder{
					dead.String(): {Held: 30, Want: 40}, alive.String(): {Held: 2, Want: 2},
				}}
				return c.putSlots(kv, entry)
			})
			c.Exec(die, [16]byte(dead))
			until(t, "the dead one's are published anew", func() bool {
				return c.Count(`SELECT count(*) FROM requests WHERE claim = 2 AND state = 'claimed' AND takeovers = 1 AND attempt = 0`) == n && c.state().Msgs == n+4
			})
			if kept := c.Count(`SELECT count(*) FROM requests WHERE claim = 1 AND daemon_id = $1 AND state = 'processing'`, [16]byte(alive)); kept != 2 {
				t.Errorf("%d requests are with the living daemon, want 2", kept)
			}
			if kept := c.Count(`SELECT count(*) FROM requests WHERE claim = 1 AND state = 'claimed' AND batch_id = $1`, [16]byte(id)); kept != 2 {
				t.Errorf("%d requests are as they were claimed, want 2", kept)
			}
			if got := testutil.ToFloat64(leader.metrics.reclaims.WithLabelValues(telemetry.StaleDaemon)); got != n {
				t.Errorf("%v reclaimed, want %d", got, n)
			}
			until(t, "the dead one's slots are dropped, and no others", func() bool {
				entries, err := slots.List(t.Context(), kv)
				if err != nil {
					t.Fatal(err)
				}
				return len(entries[testModel].Holders) == 1 && entries[testModel].Holders[alive.String()].Held == 2
			})
		})
	}
}

// putSlots writes an entry as a daemon would. False: another wrote it first.
func (c *cluster) putSlots(kv jetstream.KeyValue, e slots.Entry) bool {
	c.T.Helper()
	entries, err := slots.List(c.T.Context(), kv)
	if err != nil {
		c.T.Fatal(err)
	}
	if entries[e.Model].Limit != e.Limit {
		return false // not yet applied
	}
	encoded, err := json.Marshal(e)
	if err != nil {
		c.T.Fatal(err)
	}
	if _, err := kv.Put(c.T.Context(), streams.Token(e.Model), encoded); err != nil {
		c.T.Fatal(err)
	}
	return true
}

// A daemon that is cut off the broker and still has heartbeats in Postgres
// keeps what it processes, whatever the broker thinks of it.
func TestTheLivingKeepTheirs(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(quickDeath)
	c.Begin(lines(4, testModel))
	c.queued(4)
	alive, dead := c.daemon(), c.daemon() // neither is in the bucket of heartbeats
	c.Exec(`UPDATE daemons SET last_heartbeat = now() + interval '1 h'`)
	c.process(alive, 2)
	c.process(dead, 2)
	c.Exec(`UPDATE daemons SET last_heartbeat = now() - interval '11 s' WHERE id = $1`, [16]byte(dead))
	until(t, "the dead one's are published anew", func() bool { return c.Count(`SELECT count(*) FROM requests WHERE claim = 2`) == 2 })
	if kept := c.Count(`SELECT count(*) FROM requests WHERE claim = 1 AND daemon_id = $1`, [16]byte(alive)); kept != 2 {
		t.Errorf("%d requests are with the living daemon, want 2", kept)
	}
}

func TestRecordsOfTheLongDeadAreRemoved(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for _, age := range []string{"25 h", "23 h"} {
		c.Exec(`UPDATE daemons SET status = 'dead', stopped_at = now() - $2::interval WHERE id = $1`, [16]byte(c.daemon()), age)
	}
	c.start(quickSweep)
	until(t, "the older one is removed", func() bool { return c.Count(`SELECT count(*) FROM daemons`) == 1 })
	if left := c.Count(`SELECT count(*) FROM daemons WHERE stopped_at > now() - interval '24 h'`); left != 1 {
		t.Error("the younger one was removed")
	}
}

// The leader looks again when the next daemon may be dead, and not much more rarely
// than a hint may be lost; it never looks all the time.
func TestNextReap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ stale, dead, want time.Duration }{
		{30 * time.Second, 0, 500 * time.Millisecond},
		{30 * time.Second, time.Millisecond, 500 * time.Millisecond},
		{30 * time.Second, 900 * time.Millisecond, 900 * time.Millisecond},
		{30 * time.Second, 25 * time.Second, 2 * time.Second},
		{120 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond},
	} {
		d := &Dispatcher{cfg: Config{StaleThreshold: c.stale}}
		if got := d.nextReap(c.dead); got != c.want {
			t.Errorf("stale after %v, dead in %v: it looks again in %v, want %v", c.stale, c.dead, got, c.want)
		}
	}
}
