package app

import (
	"context"
	"errors"
	"strings"
	"testing"

	"fusillade/internal/embedded"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// A local run goes on where an earlier one left off, and has its data to
// itself.
func TestLocal(t *testing.T) {
	t.Parallel()
	const n = 40
	c := newCluster(t, mock.Settings{Latency: "hang"})
	cfg := LocalConfig{
		DataDir: t.TempDir(), Settings: &c.settings, Log: testenv.Logger(t),
	}
	first := c.local(cfg)
	id := c.begin("r", n, "m")
	stopFirst := first.run()
	testenv.Eventually(t, "calls are in flight", func() bool { return c.endpoint.Stats().InFlight > 0 })
	if _, err := StartLocal(t.Context(), cfg); !errors.Is(err, embedded.ErrInUse) {
		t.Errorf("a second run on the same directory: %v, want ErrInUse", err)
	}
	stopFirst()
	if first.Recovered != 0 {
		t.Errorf("%d requests were recovered by the first run", first.Recovered)
	}
	if done := c.Batch(id).Counts.Done(); done != 0 {
		t.Errorf("%d requests have ended, though no call has", done)
	}

	if err := c.endpoint.Configure(mock.Settings{}); err != nil {
		t.Fatal(err)
	}
	second := c.local(cfg)
	// Those that the first run released when it stopped need no recovery.
	if claimed := c.Batch(id).Counts.InProgress; second.Recovered == 0 || int64(second.Recovered) > claimed {
		t.Errorf("%d requests were recovered, %d had been claimed", second.Recovered, claimed)
	}
	var stuck int
	if err := c.DB.QueryRow(t.Context(), `SELECT count(*) FROM requests WHERE due_at IS NULL`).Scan(&stuck); err != nil || stuck != 0 {
		t.Errorf("%d live requests wait for no claim, error %v", stuck, err)
	}
	stopSecond := second.run()
	c.awaitEnd(id)
	stopSecond()
	c.calledAtMost(2)
}

// local is a Local and what it takes to use it.
type local struct {
	*Local
	c *cluster
}

func (c *cluster) local(cfg LocalConfig) local {
	c.T.Helper()
	l, err := StartLocal(c.T.Context(), cfg)
	if err != nil {
		c.T.Fatal(err)
	}
	return local{l, c}
}

// run runs everything in one daemon. stop cuts its calls off and stops what
// was started.
func (l local) run() (stop func()) {
	s := l.c.settings
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Standalone(ctx, ctx, l.Resources, &s, nil)
	}()
	return func() {
		cancel()
		if err := errors.Join(<-done, l.Stop()); err != nil {
			l.c.T.Error(err)
		}
	}
}

// Where the process that has the data directory runs no database there, none can
// be opened beside it, and what to do is said.
func TestOpenRunningWithoutDatabase(t *testing.T) {
	t.Parallel()
	if _, err := OpenRunning(t.Context(), t.TempDir()); !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), "try again") {
		t.Errorf("opened a database that is not there: %v", err)
	}
}
