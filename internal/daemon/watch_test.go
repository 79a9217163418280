package daemon_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"fusillade/internal/daemon"
	"fusillade/internal/testenv"
)

// A daemon whose loop is stuck has no more heartbeats, ends its work, and
// begins again as another if its work does end.
func TestStuckDaemonStartsAgain(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	cfg := e.config(20*time.Millisecond, time.Minute)
	cfg.StuckAfter = 300 * time.Millisecond
	lives, ended, _ := e.run(t, cfg)
	first := testenv.Receive(t, "work begins", lives)
	e.beatsOn(t, first.daemon.ID)
	if err := first.daemon.Alive(); err != nil {
		t.Errorf("Alive = %v with no loop", err)
	}
	first.daemon.Watchdog().Step("counting sheep")
	testenv.Receive(t, "doing ends", first.doing.Done())
	if err := context.Cause(first.doing); !errors.Is(err, daemon.ErrStuck) || !strings.Contains(err.Error(), "counting sheep") {
		t.Errorf("doing ended for %v, want ErrStuck and the name of the loop", err)
	}
	if first.taking.Err() == nil {
		t.Error("a stuck daemon takes work")
	}
	if err := first.daemon.Alive(); !errors.Is(err, daemon.ErrStuck) {
		t.Errorf("Alive = %v, want ErrStuck", err)
	}
	second := testenv.Receive(t, "work begins again", lives)
	if second.daemon.ID == first.daemon.ID {
		t.Error("a stuck daemon came back to life")
	}
	if err := second.daemon.Alive(); err != nil {
		t.Errorf("Alive = %v for a new daemon", err)
	}
	_, beat := e.record(t, first.daemon.ID)
	e.beatsOn(t, second.daemon.ID)
	if _, later := e.record(t, first.daemon.ID); !later.Equal(beat) {
		t.Error("a stuck daemon has heartbeats")
	}
	if n := e.log.count("stacks of all goroutines"); n != 1 {
		t.Errorf("%d dumps of the stacks, want one", n)
	}
	second.end <- nil
	if err := testenv.Receive(t, "Run returns", ended); err != nil {
		t.Errorf("Run = %v", err)
	}
}

// Work that does not end either is given up, so that the process ends.
func TestStuckWorkIsGivenUp(t *testing.T) {
	t.Parallel()
	e := newEnv(t, time.Minute)
	cfg := e.config(20*time.Millisecond, time.Minute)
	cfg.StuckAfter = 200 * time.Millisecond
	release := make(chan struct{})
	over := make(chan struct{})
	err := daemon.Run(t.Context(), t.Context(), cfg, func(_, _ context.Context, d *daemon.Daemon) error {
		defer close(over)
		defer d.Watchdog().Step("waiting for a lock").End()
		<-release
		return nil
	})
	if !errors.Is(err, daemon.ErrAbandoned) || !errors.Is(err, daemon.ErrStuck) || !strings.Contains(err.Error(), "waiting for a lock") {
		t.Errorf("Run = %v, want ErrAbandoned and the name of the loop", err)
	}
	close(release)
	<-over
}
