package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"fusillade/internal/watchdog"
)

var (
	// ErrStuck is returned when a loop of the daemon made no progress, so that the
	// daemon has stopped its heartbeats and its work.
	ErrStuck = errors.New("the daemon makes no progress")
	// ErrAbandoned is returned when, after ErrStuck, the work did not end. The
	// process must.
	ErrAbandoned = errors.New("stuck work does not end")
)

const (
	// stackBytes is how much of all goroutines' stacks is logged.
	stackBytes = 1 << 20
	// bounded is more than any single wait for Postgres or NATS may take.
	bounded = 30 * time.Second
)

// stuckAfter is how long a step of a loop may take. Whatever waits for
// Postgres or NATS is over by then: it had a deadline, or the daemon has fenced
// itself for want of a heartbeat.
func (c Config) stuckAfter() time.Duration {
	if c.StuckAfter > 0 {
		return c.StuckAfter
	}
	return 2*c.Threshold + bounded
}

// Watchdog is what the loops of the daemon's work report to.
func (d *Daemon) Watchdog() *watchdog.Watchdog { return d.watchdog }

// Alive returns an error that names the loops that make no progress, nil if
// all do. Waiting for Postgres or NATS is no lack of progress.
func (d *Daemon) Alive() error {
	if stuck := d.watchdog.Stuck(); len(stuck) > 0 {
		return fmt.Errorf("%w: %s", ErrStuck, strings.Join(stuck, ", "))
	}
	return nil
}

// watch returns what Alive does, and logs it with the stacks of all goroutines.
func (d *Daemon) watch(ctx context.Context) error {
	err := d.Alive()
	if err == nil {
		return nil
	}
	d.cfg.Log.Error("a loop makes no progress; the daemon stops", "err", err)
	if d.cfg.Log.Enabled(ctx, slog.LevelDebug) {
		stacks := make([]byte, stackBytes)
		d.cfg.Log.Debug("stacks of all goroutines", "stacks", string(stacks[:runtime.Stack(stacks, true)]))
	}
	return err
}

// awaitStuck waits for the work of a stuck daemon, which was told to stop, and
// gives it up in the end.
func (d *Daemon) awaitStuck(cause error, done <-chan error) error {
	timer := time.NewTimer(d.cfg.stuckAfter())
	defer timer.Stop()
	select {
	case err := <-done:
		return errors.Join(cause, err)
	case <-timer.C:
		return fmt.Errorf("%w: %w", ErrAbandoned, cause)
	}
}
