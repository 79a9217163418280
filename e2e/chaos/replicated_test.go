//go:build chaos && unix

package chaos

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// leads lists what has a leader: subjects of the broker's API that have it step
// down.
func leads() (subjects []string) {
	for _, stream := range []string{"REQUESTS", "KV_SLOTS", "KV_DAEMONS", "KV_HOLDS", "KV_RATES"} {
		subjects = append(subjects, "STREAM.LEADER.STEPDOWN."+stream)
	}
	for _, model := range models {
		subjects = append(subjects, "CONSUMER.LEADER.STEPDOWN.REQUESTS."+streams.ConsumerName(batch.Model(model)))
	}
	return append(subjects, "META.LEADER.STEPDOWN")
}

// unhurried has a batch last as long as the faults of a cluster do.
const unhurried = "uniform:60ms-180ms"

// Every leader steps down, one after the other, while all run.
func TestReplicatedStepDown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{replicas: true, latency: unhurried})
	c.pair()
	const n = 4000
	id := c.batch(n)
	c.awaitDone(id, n/20)
	gaps := watchGaps(c)
	choose := choices(t)
	subjects := leads()
	choose.Shuffle(len(subjects), func(i, j int) { subjects[i], subjects[j] = subjects[j], subjects[i] })
	for _, subject := range subjects {
		gaps.begin(subject)
		c.stepDown(subject)
		wait(2 * time.Second)
	}
	longest := gaps.end()
	if c.done(id) >= n {
		t.Error("the batch was over before the last of them stepped down")
	}
	outcome := c.verify()
	faults.add(t, "every leader of stream, consumers, buckets and cluster steps down, one every 2 s (time: the longest pause of a model)", outcome, longest)
}

// One of three servers dies, is frozen, loses its store; all are restarted in
// turn; two of three are away.
func TestReplicatedServers(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"killed":  "one of three NATS servers killed for 3 s, the leader of the stream",
		"frozen":  "one of three NATS servers frozen for 12 s, the leader of the stream",
		"wiped":   "one of three NATS servers killed and its store wiped",
		"quorum":  "two of three NATS servers killed for 5 s",
		"rolling": "rolling restart of three NATS servers",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{replicas: true, latency: unhurried})
			c.pair()
			const n = 2000
			id := c.batch(n)
			c.awaitDone(id, n/8)
			lead := max(c.leader("REQUESTS"), 0)
			b := c.peers.brokers
			at := time.Now()
			held := c.inHand()
			switch name {
			case "killed":
				b[lead].kill()
				wait(3 * time.Second)
				b[lead].start()
			case "frozen":
				b[lead].signal(syscall.SIGSTOP)
				wait(12 * time.Second)
				b[lead].signal(syscall.SIGCONT)
			case "wiped":
				b[lead].kill()
				b[lead].wipe()
				b[lead].start()
			case "quorum":
				other := (lead + 1) % len(b)
				b[lead].kill()
				b[other].kill()
				wait(5 * time.Second)
				b[lead].launch()
				b[other].start()
				at, held = time.Now(), c.inHand()
			case "rolling":
				for i := range b {
					b[i].stop()
					b[i].start()
					c.current()
				}
				at, held = time.Now(), c.inHand()
			}
			took := c.awaitMoved(held, at)
			faults.add(t, fault, c.verify(), took)
		})
	}
}

// A server is cut off from the two others: with the stream's lead, and with a
// dispatcher and a consumer that reach no other.
func TestReplicatedPartition(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"leader": "the NATS server that leads the stream cut off from the others for 15 s",
		"client": "a NATS server cut off for 15 s with a dispatcher and a consumer that reach no other",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{replicas: true, latency: unhurried})
			lone := 0
			if name == "client" {
				for _, role := range []string{"dispatcher", "consumer"} {
					c.keep(role, "FUSILLADE_NATS_URL=nats://"+c.peers.clients[lone].Addr())
					c.keep(role)
				}
				c.awaitDaemons(4)
			} else {
				c.pair()
			}
			const n = 4000
			id := c.batch(n)
			c.awaitDone(id, n/8)
			if name == "leader" {
				lone = max(c.leader("REQUESTS"), 0)
			}
			c.peers.cutOff(lone)
			wait(15 * time.Second)
			at, held := time.Now(), c.inHand()
			c.peers.join(lone)
			took := c.awaitMoved(held, at)
			faults.add(t, fault, c.verify(), took)
		})
	}
}

// What is in the broker is deleted while all run.
func TestReplicatedDeleted(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]string{
		"stream":   "the stream deleted, on three NATS servers",
		"consumer": "the stream's consumers deleted, on three NATS servers",
		"slots":    "bucket SLOTS deleted, on three NATS servers",
		"daemons":  "bucket DAEMONS deleted, on three NATS servers",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, options{replicas: true, latency: unhurried})
			c.pair()
			const n = 1500
			id := c.batch(n)
			c.awaitDone(id, n/4)
			js, ctx := c.js(), context.Background()
			var err error
			at, held := time.Now(), c.inHand()
			switch name {
			case "stream":
				err = js.DeleteStream(ctx, "REQUESTS")
			case "consumer":
				for _, model := range models {
					if err == nil {
						err = js.DeleteConsumer(ctx, "REQUESTS", streams.ConsumerName(batch.Model(model)))
					}
				}
			case "slots":
				err = js.DeleteKeyValue(ctx, "SLOTS")
			case "daemons":
				err = js.DeleteKeyValue(ctx, "DAEMONS")
			}
			if err != nil {
				t.Fatal(err)
			}
			took := c.awaitMoved(held, at)
			faults.add(t, fault, c.verify(), took)
		})
	}
}

// An older copy of the store is put back: acks are undone, counts of deliveries
// and revisions of buckets come again.
func TestStoreGoesBack(t *testing.T) {
	t.Parallel()
	t.Run("one", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, options{})
		c.pair()
		const n = 1500
		id := c.batch(n)
		c.awaitDone(id, n/5)
		copied := t.TempDir()
		c.broker.stop()
		c.broker.copyTo(copied)
		c.broker.start()
		c.awaitDone(id, n/2)
		c.broker.kill()
		c.broker.restore(copied)
		at, held := time.Now(), c.inHand()
		c.broker.start()
		took := c.awaitMoved(held, at)
		faults.add(t, "the store of one NATS server put back by a quarter of the batch", c.verify(), took)
	})
	t.Run("quorum", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, options{replicas: true, latency: unhurried})
		c.pair()
		const n = 2500
		id := c.batch(n)
		c.awaitDone(id, n/8)
		b := c.peers.brokers
		copies := []string{t.TempDir(), t.TempDir()}
		for i, dir := range copies {
			b[i].stop()
			b[i].copyTo(dir)
			b[i].start()
			c.current()
		}
		c.awaitDone(id, n/2)
		for _, one := range b {
			one.kill()
		}
		for i, dir := range copies {
			b[i].restore(dir)
			b[i].launch()
		}
		wait(3 * time.Second)
		at, held := time.Now(), c.inHand()
		b[2].start()
		took := c.awaitMoved(held, at)
		faults.add(t, "the stores of two of three NATS servers put back, the third joins later", c.verify(), took)
	})
}

// Two servers serve from copies of one store, each to a dispatcher and a
// consumer; then one of them is gone.
func TestTwoHalves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, options{})
	c.halves = 2
	second, url := newHalf(c)
	for _, role := range []string{"dispatcher", "consumer"} {
		c.keep(role)
		c.keep(role, "FUSILLADE_NATS_URL="+url)
	}
	c.awaitDaemons(4)
	const n = 2000
	id := c.batch(n)
	c.awaitDone(id, n/5)
	other := newBroker(t, false)
	other.kill()
	c.broker.stop()
	other.wipe()
	c.broker.copyTo(other.dir)
	c.broker.start()
	other.start()
	second.Retarget(other.addr)
	c.awaitDone(id, n/2)
	at, held := time.Now(), c.inHand()
	other.kill()
	second.Retarget(c.broker.addr)
	took := c.awaitMoved(held, at)
	faults.add(t, "two NATS servers serve from copies of one store, then one", c.verify(), took)
}

// What is promised of single crashes holds with replicas.
func TestReplicatedPods(t *testing.T) {
	t.Parallel()
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, options{replicas: true, noErrors: true, latency: "200ms"})
		c.pair()
		const n = 800
		id := c.batch(n)
		c.awaitDone(id, n/4)
		held := c.inHand()
		at := time.Now()
		c.pods[3].now().Kill()
		took := c.awaitMoved(held, at)
		faults.add(t, "consumer killed, on three NATS servers (stale after 12 s)", c.verify(), took)
	})
	t.Run("cancel", func(t *testing.T) {
		t.Parallel()
		c := newCluster(t, options{replicas: true, latency: "uniform:100ms-200ms"})
		c.pair()
		const n = 600
		cancelled := c.batch(n)
		c.batch(300)
		c.awaitDone(cancelled, n/4)
		c.stepDown("STREAM.LEADER.STEPDOWN.REQUESTS")
		if out, err := c.command("batches", "cancel", cancelled.String()); err != nil {
			t.Fatalf("cancelling: %v: %s", err, out)
		}
		wait(time.Second)
		before := c.calledOf("a")
		outcome := c.verify()
		if after := c.calledOf("a"); !maps.Equal(before, after) {
			t.Errorf("a second after the cancel %d requests of the batch had been called, at the end %d", len(before), len(after))
		}
		faults.add(t, "a batch cancelled as the stream's leader steps down, on three NATS servers", outcome, 0)
	})
}

// gaps measures how long no request of a model ended.
type gaps struct {
	c       *cluster
	over    chan struct{}
	ended   chan struct{}
	longest time.Duration
	during  chan string
}

func watchGaps(c *cluster) *gaps {
	g := &gaps{c: c, over: make(chan struct{}), ended: make(chan struct{}), during: make(chan string, 64)}
	go func() {
		defer close(g.ended)
		last, counts, now := make(map[string]time.Time), make(map[string]int64), ""
		begun := time.Now()
		for _, m := range models {
			last[m] = begun
		}
		for {
			select {
			case <-g.over:
				return
			case now = <-g.during:
				continue
			case <-time.After(50 * time.Millisecond):
			}
			stats, at := c.endpoint.stats(), time.Now()
			for _, m := range slices.Sorted(maps.Keys(last)) {
				if calls := stats.Models[m].Calls; calls != counts[m] {
					counts[m], last[m] = calls, at
					continue
				}
				if gap := at.Sub(last[m]); gap > g.longest {
					g.longest = gap
					if gap > time.Second {
						c.t.Logf("no call to %s for %v after %s", m, gap.Round(10*time.Millisecond), now)
					}
				}
			}
		}
	}()
	return g
}

func (g *gaps) begin(what string) { g.during <- what }

func (g *gaps) end() time.Duration {
	close(g.over)
	<-g.ended
	return g.longest
}
