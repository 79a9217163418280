//go:build chaos && unix

package chaos

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/failpoint"
)

// A batch is cancelled under load while another of the same models goes on:
// as it should be, with the hint lost, with the API killed after its commit,
// and while a consumer is frozen that wakes later.
func TestCancel(t *testing.T) {
	for name, fault := range map[string]string{
		"plain":       "a batch cancelled under load",
		"hint lost":   "a batch cancelled, the hint lost",
		"killed":      "the API killed after the commit of a cancel",
		"with crash":  "a batch cancelled as a consumer is killed",
		"nats killed": "a batch cancelled while NATS is away",
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{loseHints: name == "hint lost", latency: "uniform:100ms-200ms"})
			c.pair()
			const n = 600
			cancelled := c.batch(n)
			c.batch(300)
			c.awaitDone(cancelled, n/4)
			switch name {
			case "killed":
				c.serve(strike(failpoint.Cancelled, 1, "kill"))
			case "with crash":
				c.pods[3].now().Kill()
			case "nats killed":
				c.broker.kill()
			}
			out, err := c.command("batches", "cancel", cancelled.String())
			if (err != nil) != (name == "killed") {
				t.Fatalf("cancelling: %v: %s", err, out)
			}
			if name == "nats killed" {
				c.broker.start()
			}
			wait(time.Second)
			before := c.calledOf("a")
			outcome := c.verify()
			if after := c.calledOf("a"); !maps.Equal(before, after) {
				t.Errorf("a second after the cancel %d requests of the batch had been called, at the end %d", len(before), len(after))
			}
			if !strings.Contains(outcome, "canceled") {
				t.Errorf("nothing was left to cancel: %s", outcome)
			}
			faults.add(t, fault, outcome, 0)
		})
	}
}

// Batches whose calls are all in flight are cancelled one after the other: the time
// is until the endpoint has lost the last of the clients.
func TestCancelTakes(t *testing.T) {
	for name, replicas := range map[string]bool{"one server": false, "three servers": true} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{replicas: replicas, noErrors: true, latency: "1h"})
			c.pair()
			const cancels = 25
			n := int64(c.limit * len(models))
			var took []time.Duration
			for range cancels {
				id := c.batch(int(n))
				poll(t, "all of it is in flight", func() bool { return c.endpoint.stats().InFlight == n })
				began := time.Now()
				c.cancel(id)
				poll(t, "nothing of it is in flight", func() bool { return c.endpoint.stats().InFlight == 0 })
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			outcome := fmt.Sprintf("%s; median %v", c.verify(), took[cancels/2].Round(time.Millisecond))
			faults.add(t, fmt.Sprintf("%d batches of %d calls in flight cancelled, NATS on %s (time: the longest until the last call is cut off)", cancels, n, name), outcome, took[cancels-1])
		})
	}
}

// cancel asks the API to cancel a batch.
func (c *cluster) cancel(id batch.ID) {
	c.t.Helper()
	resp, err := c.endpoint.client.Post(c.server+"/v1/batches/"+id.String()+"/cancel", "application/json", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("cancelling: status %d", resp.StatusCode)
	}
}

// The leader dies in the middle of a purge; the next one ends it.
func TestPurge(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{settings: []string{"FUSILLADE_PURGE_INTERVAL_MS=1000", "FUSILLADE_PURGE_BATCH_SIZE=40"}})
	leader := c.keep("dispatcher", strike(failpoint.Purging, 2+choices(t).IntN(4), "kill"))
	poll(t, "it leads", func() bool { return strings.Contains(leader.first.Log(), "this dispatcher leads") })
	c.keep("dispatcher")
	c.keep("consumer")
	deleted := c.batch(200)
	c.batch(100)
	outcome := c.verify()
	c.mu.Lock()
	c.batches = c.batches[1:]
	c.mu.Unlock()
	if out, err := c.command("batches", "delete", deleted.String()); err != nil {
		t.Fatalf("deleting: %v: %s", err, out)
	}
	poll(t, "the failpoint acts", func() bool { return struck(leader.first) })
	<-leader.first.Done()
	at := time.Now()
	poll(t, "nothing is left of the batch", func() bool { return checker.Erased(t.Context(), c.db, deleted) == nil })
	if err := checker.CheckAll(t.Context(), c.db); err != nil {
		t.Error(err)
	}
	faults.add(t, "leader killed in the middle of a purge", outcome+"; of the deleted batch nothing is left", time.Since(at))
}
