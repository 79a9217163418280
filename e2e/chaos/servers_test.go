//go:build chaos && unix

package chaos

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/testenv/proxy"
)

// The broker dies and comes back, with what it had or without.
func TestBroker(t *testing.T) {
	for name, fault := range map[string]string{"killed": "NATS killed and restarted", "wiped": "NATS killed, its store wiped, restarted"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{})
			c.pair()
			const n = 1000
			id := c.batch(n)
			c.awaitDone(id, n/4)
			c.broker.kill()
			if name == "wiped" {
				c.broker.wipe()
			}
			outage := time.Duration(300+choices(t).IntN(1200)) * time.Millisecond
			wait(outage)
			c.broker.start()
			at, held := time.Now(), c.inHand()
			took := c.awaitMoved(held, at)
			faults.add(t, fmt.Sprintf("%s after %.1f s", fault, outage.Seconds()), c.verify(), took)
		})
	}
}

// The database dies and comes back after its crash recovery. Starts that it had
// not flushed are lost.
func TestPostgresKilled(t *testing.T) {
	c := newCluster(t, options{})
	c.pair()
	const n = 1000
	id := c.batch(n)
	for i := range 2 {
		c.awaitDone(id, (1+2*i)*n/6)
		c.databaseCrashes++
		if err := pg.kill(); err != nil {
			t.Fatal(err)
		}
		wait(time.Duration(choices(t).IntN(800)) * time.Millisecond)
		if err := pg.start(); err != nil {
			t.Fatal(err)
		}
	}
	at := time.Now()
	poll(t, "the database answers", func() bool { return c.count(`SELECT 1`) == 1 })
	took := c.awaitMoved(c.inHand(), at)
	faults.add(t, "Postgres killed and restarted, twice", c.verify(), took)
}

// Every connection to the database is ended, again and again.
func TestPostgresConnections(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.pair()
	const n = 1000
	id := c.batch(n)
	var at time.Time
	for i := range 5 {
		c.awaitDone(id, (i+1)*n/8)
		c.postgres.Cut()
		wait(100 * time.Millisecond)
		at = time.Now()
		c.postgres.Restore()
	}
	took := c.awaitMoved(c.inHand(), at)
	faults.add(t, "connections to Postgres cut, five times", c.verify(), took)
}

// It is away for longer than the stale threshold: all daemons take themselves
// for dead, and begin again.
func TestAwayForLong(t *testing.T) {
	for _, name := range []string{"postgres", "nats"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{})
			c.pair()
			const n = 800
			id := c.batch(n)
			c.awaitDone(id, n/4)
			p := c.postgres
			if name == "nats" {
				p = c.nats
			}
			p.Cut()
			wait(5 * time.Second)
			at, held := time.Now(), c.inHand()
			p.Restore()
			took := c.awaitMoved(held, at)
			faults.add(t, name+" unreachable for 5 s, longer than the stale threshold of 3 s", c.verify(), took)
		})
	}
}

// The disk of the database is full for a while: a trigger raises what the server
// raises then, SQLSTATE 53100, for every result and every start.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.pair()
	const n = 800
	id := c.batch(n)
	c.awaitDone(id, n/4)
	exec := func(sql string) {
		t.Helper()
		if _, err := c.db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`
CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $$;
CREATE TRIGGER disk_full BEFORE INSERT ON results EXECUTE FUNCTION disk_full();
CREATE TRIGGER disk_full BEFORE UPDATE ON requests EXECUTE FUNCTION disk_full()`)
	wait(2 * time.Second)
	held := c.inHand()
	exec(`DROP TRIGGER disk_full ON results; DROP TRIGGER disk_full ON requests`)
	took := c.awaitMoved(held, time.Now())
	faults.add(t, "disk of Postgres full for 2 s", c.verify(), took)
}

// Everything on the network is slow, connections break at random, and for a
// second nothing passes at all.
func TestNetwork(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.pair()
	choose := choices(t)
	const n = 800
	id := c.batch(n)
	c.awaitDone(id, n/8)
	both := []*proxy.Proxy{c.postgres, c.nats}
	for i := range 12 {
		p := both[choose.IntN(2)]
		switch {
		case i == 6:
			p.Stall()
			wait(time.Second)
			p.Restore()
		case choose.IntN(2) == 0:
			p.Slow(time.Duration(1+choose.IntN(15)) * time.Millisecond)
		default:
			p.Drop(choose, 0.3)
		}
		wait(time.Duration(100+choose.IntN(300)) * time.Millisecond)
	}
	at, held := time.Now(), c.inHand()
	for _, p := range both {
		p.Restore()
	}
	took := c.awaitMoved(held, at)
	faults.add(t, "network slow, stalled and dropping connections", c.verify(), took)
}
