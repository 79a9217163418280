//go:build chaos && unix

package chaos

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"fusillade/internal/failpoint"
)

// strike is a failpoint and what it does.
func strike(point failpoint.Point, hit int, action string) string {
	return fmt.Sprintf("FAILPOINT=%s:%d:%s", point, hit, action)
}

// A consumer dies or freezes at each instant between two writes. A frozen one
// wakes after others have taken its work over.
func TestConsumer(t *testing.T) {
	for _, of := range []struct {
		point failpoint.Point
		where string
		hits  int // the failpoint acts at one of the first
	}{
		{failpoint.Received, "before the start", 60},
		{failpoint.Started, "after the start, before the call", 60},
		{failpoint.Calling, "in the call", 60},
		{failpoint.Called, "after the call, before the commit of its result", 8},
		{failpoint.Finished, "after the commit of a result, before the ack", 8},
		{failpoint.Returned, "after the commit of a retry, before the nak", 6},
		{failpoint.Beaten, "between its two heartbeats", 3},
	} {
		for action, verb := range map[string]string{"kill": "killed", "stop": "frozen"} {
			t.Run(string(of.point)+"/"+action, func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, options{})
				c.keep("dispatcher")
				c.keep("dispatcher")
				how := strike(of.point, 2+choices(t).IntN(of.hits), action)
				if of.point == failpoint.Calling {
					how += ":10ms" // the call is under way then
				}
				victim := c.keep("consumer", how)
				c.keep("consumer")
				c.awaitDaemons(3) // the victim may be gone by its second heartbeat
				c.batch(500)
				took := c.awaitStrike(victim, action)
				if action == "stop" {
					c.frozen++
					victim.first.Signal(syscall.SIGCONT)
				}
				faults.add(t, fmt.Sprintf("consumer %s %s", verb, of.where), c.verify(), took)
			})
		}
	}
}

// awaitStrike waits until the failpoint has acted and what was in flight has
// moved on, and returns how long that took.
func (c *cluster) awaitStrike(victim *pod, action string) time.Duration {
	c.t.Helper()
	poll(c.t, "the failpoint acts", func() bool { return struck(victim.first) })
	if action == "kill" {
		<-victim.first.Done()
	}
	at := time.Now()
	return c.awaitMoved(c.inHand(), at)
}

// A consumer is told to stop: what it has not begun goes elsewhere at once,
// and so do the calls that are cut off after the drain timeout.
func TestGracefulStop(t *testing.T) {
	c := newCluster(t, options{latency: "uniform:20s-30s", noErrors: true, settings: []string{"FUSILLADE_DRAIN_TIMEOUT_MS=1"}})
	c.keep("dispatcher")
	victim := c.keep("consumer")
	c.batch(20)
	poll(t, "all are called", func() bool { return c.endpoint.stats().InFlight == 20 })
	c.keep("consumer")
	c.awaitDaemons(3)
	at, held := time.Now(), c.inHand()
	victim.replace()
	took := c.awaitMoved(held, at)
	if out, err := c.command("batches", "cancel", c.ids()[0].String()); err != nil {
		t.Fatalf("cancelling: %v %s", err, out)
	}
	faults.add(t, "consumer told to stop, its calls cut off", c.verifyBut(1), took)
}

// Every pod is replaced under load, one after the other.
func TestRollingRestart(t *testing.T) {
	c := newCluster(t, options{settings: []string{"FUSILLADE_STALE_DAEMON_THRESHOLD_MS=60000"}})
	c.pair()
	const n = 1600
	id := c.batch(n)
	longest := time.Duration(0)
	for i, p := range c.pods {
		c.awaitDone(id, (i+1)*n/8)
		at, held := time.Now(), c.inHand()
		p.replace()
		longest = max(longest, c.awaitMoved(held, at))
	}
	outcome := c.verify()
	if !strings.Contains(outcome, "none called twice") {
		t.Errorf("a rolling restart: %s", outcome)
	}
	faults.add(t, "rolling restart of all pods under load", outcome, longest)
}
