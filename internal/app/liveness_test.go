package app

import (
	"fmt"
	"testing"
	"time"

	"fusillade/internal/config"
	"fusillade/internal/mock"
)

// prompt is far below the poll and the lease that these tests run with, so a
// batch that needs one of them to go on fails the test.
const prompt = 20 * time.Second

// slowFallbacks are polls and leases that save nobody within prompt.
func slowFallbacks(s *config.Standalone) {
	s.ClaimInterval, s.StaleDaemonThreshold, s.HeartbeatInterval = ms(60_000), ms(60_000), ms(5_000)
}

func TestManySmallBatches(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "uniform:0ms-3ms"})
	slowFallbacks(&c.settings)
	for range 2 {
		c.start("dispatcher")
		c.start("consumer")
	}
	var slowest time.Duration
	for i := range 40 {
		began := time.Now()
		models := []string{"a", fmt.Sprintf("m%d", i%7), fmt.Sprintf("n%d", i%11)}[:1+i%3]
		c.awaitEnd(c.begin(fmt.Sprint(i), 1+i%17, models...), prompt)
		slowest = max(slowest, time.Since(began))
	}
	t.Logf("the slowest batch took %v", slowest)
	c.calledAtMost(1)
}

// A single request at a time, with one slot that moves between consumers.
func TestOneRequestAtATime(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	slowFallbacks(&c.settings)
	c.settings.DefaultModelConcurrency = 1
	c.start("dispatcher")
	for range 3 {
		c.start("consumer")
	}
	for i := range 20 {
		c.awaitEnd(c.begin(fmt.Sprint(i), 1, "m"), prompt)
	}
	c.calledAtMost(1)
}

// Many models at once, with far less room in the consumers than slots, and
// retries in between.
func TestManyModels(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{Latency: "uniform:0ms-5ms", Errors: "503=0.05", Ceilings: "*=3"})
	slowFallbacks(&c.settings)
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
		c.awaitEnd(c.begin(fmt.Sprint(i), 240, models...), prompt)
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
	slowFallbacks(&c.settings)
	c.start("dispatcher")
	c.start("consumer")
	c.start("consumer")
	for i := range 2 {
		c.awaitEnd(c.begin(fmt.Sprint(i), 30, "m", "n"), prompt)
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
	slowFallbacks(&c.settings)
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
		c.awaitEnd(id, prompt)
	}
	c.calledAtMost(1)
}
