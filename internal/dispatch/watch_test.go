package dispatch

import (
	"slices"
	"testing"
	"time"

	"fusillade/internal/watchdog"
)

// What hangs is named, and no more once it goes on.
func TestStuckLoopsAreNamed(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"leading":          "daemons",
		"looking for work": "models",
		"dispatching requests of " + string(testModel): "templates",
	} {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			watch := watchdog.New(300 * time.Millisecond)
			c.Begin(lines(4, testModel))
			tx, err := c.DB.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), `LOCK TABLE `+table); err != nil {
				t.Fatal(err)
			}
			c.start(func(cfg *Config) { cfg.Watch = watch })
			until(t, "it is stuck", func() bool { return slices.Contains(watch.Stuck(), name) })
			if err := tx.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.queued(4)
			until(t, "nothing is stuck", func() bool { return len(watch.Stuck()) == 0 })
		})
	}
}
