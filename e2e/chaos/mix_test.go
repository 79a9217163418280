//go:build chaos && unix

package chaos

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"fusillade/internal/testenv/proxy"
)

// Faults of every kind, one upon the other, as the seed has it.
func TestMix(t *testing.T) {
	c := newCluster(t, options{})
	c.pair()
	c.keep("consumer")
	choose := choices(t)
	c.batch(1500)
	const faultsToPlay = 14
	for i := range faultsToPlay {
		p := c.pods[choose.IntN(len(c.pods))]
		d := time.Duration(100+choose.IntN(900)) * time.Millisecond
		what := ""
		switch choose.IntN(9) {
		case 0, 1:
			what = p.role + " killed"
			p.now().Kill()
		case 2:
			d = time.Duration(500+choose.IntN(4500)) * time.Millisecond
			what = p.role + " frozen"
			c.frozen++
			frozen := p.now()
			frozen.Signal(syscall.SIGSTOP)
			wait(d)
			frozen.Signal(syscall.SIGCONT)
		case 3:
			what = "NATS killed"
			c.broker.kill()
			wait(d)
			c.broker.start()
		case 4:
			what = "NATS wiped"
			c.broker.kill()
			c.broker.wipe()
			c.broker.start()
		case 5:
			what = "Postgres killed"
			c.databaseCrashes++
			if err := pg.kill(); err != nil {
				t.Fatal(err)
			}
			wait(d)
			if err := pg.start(); err != nil {
				t.Fatal(err)
			}
		case 6:
			what = "connections cut"
			proxies := []*proxy.Proxy{c.postgres, c.nats}
			cut := proxies[choose.IntN(2)]
			cut.Cut()
			wait(d)
			cut.Restore()
		case 7:
			what = "network slow"
			c.postgres.Slow(5 * time.Millisecond)
			c.nats.Slow(5 * time.Millisecond)
			wait(d)
			c.postgres.Restore()
			c.nats.Restore()
		case 8:
			what = "a new batch"
			c.batch(200)
		}
		t.Logf("fault %d: %s, %v", i+1, what, d)
		wait(time.Duration(choose.IntN(1500)) * time.Millisecond)
	}
	poll(t, "the database answers", func() bool { return c.count(`SELECT 1`) == 1 })
	at := time.Now()
	took := c.awaitMoved(c.inHand(), at)
	faults.add(t, fmt.Sprintf("%d faults of every kind, one upon the other", faultsToPlay), c.verify(), took)
}
