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

// A dispatcher dies or freezes at each instant between two writes; the one that
// leads, or the other.
func TestDispatcher(t *testing.T) {
	for _, of := range []struct {
		point failpoint.Point
		where string
	}{
		{failpoint.Claimed, "after a claim, before the publish"},
		{failpoint.Published, "after a publish, before its ack"},
		{failpoint.Beaten, "between its two heartbeats"},
	} {
		for action, verb := range map[string]string{"kill": "killed", "stop": "frozen"} {
			t.Run(string(of.point)+"/"+action, func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, options{})
				choose := choices(t)
				how := strike(of.point, 2+choose.IntN(3), action)
				first := choose.IntN(2) == 0
				var victim *pod
				for i := range 2 {
					if (i == 0) == first {
						victim = c.keep("dispatcher", how)
					} else {
						c.keep("dispatcher")
					}
				}
				c.keep("consumer")
				c.keep("consumer")
				c.batch(600)
				took := c.awaitStrike(victim, action)
				if action == "stop" {
					victim.first.Signal(syscall.SIGCONT)
				}
				faults.add(t, fmt.Sprintf("dispatcher %s %s", verb, of.where), c.verify(), took)
			})
		}
	}
}

// The dispatcher that leads dies or freezes while it takes back what a consumer
// left that died before.
func TestLeader(t *testing.T) {
	for action, verb := range map[string]string{"kill": "killed", "stop": "frozen"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{latency: "uniform:200ms-400ms", settings: []string{"FUSILLADE_UNCLAIM_BATCH_SIZE=3"}})
			leader := c.keep("dispatcher", strike(failpoint.Reclaimed, 1+choices(t).IntN(2), action))
			poll(t, "it leads", func() bool { return strings.Contains(leader.first.Log(), "this dispatcher leads") })
			c.keep("dispatcher")
			dead := c.keep("consumer")
			c.awaitDaemons(3)
			c.batch(150)
			poll(t, "calls are in flight", func() bool { return c.endpoint.stats().InFlight == int64(2*c.limit) })
			c.keep("consumer")
			at, held := time.Now(), c.inHand()
			dead.now().Kill()
			poll(t, "the failpoint acts", func() bool { return struck(leader.first) })
			took := c.awaitMoved(held, at)
			if action == "stop" {
				leader.first.Signal(syscall.SIGCONT)
			}
			faults.add(t, fmt.Sprintf("consumer killed, and then the leader %s in the middle of its reclaim", verb), c.verify(), took)
		})
	}
}
