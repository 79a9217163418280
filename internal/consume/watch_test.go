package consume

import (
	"slices"
	"testing"
	"time"

	"fusillade/internal/watchdog"
)

// What hangs is named, and no more once it goes on.
func TestStuckLoopsAreNamed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	watch := watchdog.New(300 * time.Millisecond)
	hold := make(gate)
	c.endpoint.set(hold.answer)
	c.start(func(cfg *Config) { cfg.Watch, cfg.CancelPoll = watch, 50*time.Millisecond })
	id := c.Begin(lines(4, testModel))
	until(t, "they are called", func() bool { return c.endpoint.inFlight() == 4 })
	tx, err := c.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE requests`); err != nil {
		t.Fatal(err)
	}
	close(hold)
	stuck := func(name string) func() bool { return func() bool { return slices.Contains(watch.Stuck(), name) } }
	until(t, "the flush of results is stuck", stuck("writing results"))
	until(t, "the look for cancels is stuck", stuck("looking for cancelled requests"))
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.AwaitEnd(id)
	until(t, "nothing is stuck", func() bool { return len(watch.Stuck()) == 0 })
}

func TestStuckStartIsNamed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	watch := watchdog.New(300 * time.Millisecond)
	id := c.queue()
	tx, err := c.DB.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `LOCK TABLE requests`); err != nil {
		t.Fatal(err)
	}
	c.start(neverPoll, func(cfg *Config) { cfg.Watch = watch })
	until(t, "the start is stuck", func() bool { return slices.Contains(watch.Stuck(), "starting requests") })
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.AwaitEnd(id.Batch)
	until(t, "nothing is stuck", func() bool { return len(watch.Stuck()) == 0 })
}

// Waiting for a database that is away, again and again, is not stuck.
func TestWaitingIsNotStuck(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	watch := watchdog.New(2 * time.Second)
	away := &faultyStore{store: c.Store, start: func(n int64) fault {
		if n < 6 {
			return refused
		}
		return none
	}}
	c.start(neverPoll, func(cfg *Config) { cfg.Watch, cfg.Store = watch, away })
	id := c.Begin(lines(4, testModel))
	until(t, "it has tried for longer than the bound", func() bool {
		if stuck := watch.Stuck(); len(stuck) > 0 {
			t.Fatalf("stuck are %v", stuck)
		}
		return away.starts.Load() > 6
	})
	c.AwaitEnd(id)
}
