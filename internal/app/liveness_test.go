package app

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// leaseInPatience is a lease that ends while a test waits. A message that is on
// its way for more than a second while its pull ends is lost until then.
const leaseInPatience = 30 * time.Second

// slowFallbacks makes polls so slow that a batch that needs one fails the test,
// and so does one that needs a lease, unless the machine kept the test's process
// from running.
func (c *cluster) slowFallbacks() {
	c.settings.ClaimInterval, c.settings.HeartbeatInterval = config.Milliseconds(10*testenv.Patience), ms(5_000)
	c.settings.StaleDaemonThreshold = config.Milliseconds(leaseInPatience)
	c.watchPauses()
}

// watchPauses notes how late a goroutine of this process runs at most.
func (c *cluster) watchPauses() {
	const each = 20 * time.Millisecond
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(each)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := time.Now()
			if late := int64(now.Sub(last) - each); late > c.pause.Load() {
				c.pause.Store(late)
			}
			last = now
		}
	}()
	c.T.Cleanup(func() {
		close(stop)
		<-stopped
	})
}

// awaitPromptEnd is awaitEnd that fails the test where nothing ends for long.
func (c *cluster) awaitPromptEnd(id batch.ID) {
	c.T.Helper()
	const starved = 250 * time.Millisecond // a quarter of what loses a message
	done, since, stalled := int64(-1), time.Now(), false
	testenv.Steadily(c.T, "the batch has ended, or stalls", func() (int64, bool) {
		b := c.Batch(id)
		if n := b.Counts.Done(); n != done {
			done, since = n, time.Now()
		}
		stalled = time.Since(since) > leaseInPatience/2
		return done, stalled || b.Status.Terminal()
	})
	if stalled {
		c.explain(id)
		if pause := time.Duration(c.pause.Swap(0)); pause < starved {
			c.T.Errorf("a batch goes on only after a lease, and the process ran at least each %v", pause)
		}
	}
	c.awaitEnd(id)
}

func TestManySmallBatches(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "uniform:0ms-3ms"})
	c.slowFallbacks()
	for range 2 {
		c.start("dispatcher")
		c.start("consumer")
	}
	var slowest time.Duration
	for i := range 40 {
		began := time.Now()
		models := []string{"a", fmt.Sprintf("m%d", i%7), fmt.Sprintf("n%d", i%11)}[:1+i%3]
		c.awaitPromptEnd(c.begin(fmt.Sprint(i), 1+i%17, models...))
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest batch took %v", slowest)
	c.calledAtMost(1)
}

// A single request at a time, with one slot that moves between consumers.
func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	c.slowFallbacks()
	c.settings.DefaultModelConcurrency = 1
	c.start("dispatcher")
	for range 3 {
		c.start("consumer")
	}
	for i := range 20 {
		c.awaitPromptEnd(c.begin(fmt.Sprint(i), 1, "m"))
	}
	c.calledAtMost(1)
}

// Many models at once, with far less room in the consumers than slots, and
// retries in between.
func TestManyModels(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "uniform:0ms-5ms", Errors: "503=0.05", Ceilings: "*=3"})
	c.slowFallbacks()
	c.settings.DefaultModelConcurrency, c.settings.MaxInFlight = 3, 5
	for range 2 {
		c.start("dispatcher")
		c.start("consumer")
	}
	var models []string
	for i := range 30 {
		models = append(models, fmt.Sprintf("model/%d", i))
	}
	for i := range 3 {
		c.awaitPromptEnd(c.begin(fmt.Sprint(i), 240, models...))
	}
	for model, s := range c.endpoint.Stats().Models {
		if s.CeilingViolations > 0 {
			t.Errorf("%s: %d calls beyond its limit", model, s.CeilingViolations)
		}
	}
}

// Work for a model that has been idle for long: its slots are released, and
// its consumers ask seldom.
func TestWorkAfterAnIdleTime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	c.slowFallbacks()
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	for i := range 2 {
		c.awaitPromptEnd(c.begin(fmt.Sprint(i), 30, "m", "n"))
		if i == 0 {
			idle := time.NewTimer(12 * time.Second) // beyond which a consumer takes a model for idle
			defer idle.Stop()
			<-idle.C
		}
	}
	c.calledAtMost(1)
}

// Consumers and dispatchers come and go, and nothing waits for a lease.
func TestDaemonsComeAndGo(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "uniform:1ms-10ms"})
	c.slowFallbacks()
	c.settings.DefaultModelConcurrency = 6
	dispatcher, consumer := c.start("dispatcher"), c.start("consumer")
	for i := range 3 {
		id := c.begin(fmt.Sprint(i), 150, "m", "n")
		c.awaitDone(id, 30)
		next := c.start("consumer")
		consumer.stop()
		consumer = next
		c.awaitDone(id, 60)
		other := c.start("dispatcher")
		dispatcher.stop()
		dispatcher = other
		c.awaitPromptEnd(id)
	}
	c.calledAtMost(1)
}
