package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"slices"
	"sync"

	"fusillade/internal/config"
	"fusillade/internal/daemon"
)

// Role is what one program of a cluster does.
type Role struct {
	Name     string
	About    string
	Settings config.Settings
	// Process and Daemon are sections of Settings. The API, which is no daemon
	// and leaves the stream alone, has no Daemon.
	Process *config.Process
	Daemon  *config.Daemon
	// Server is a section of the API's Settings: its address is opened before all
	// else, and answers 503 until the API can work.
	Server *config.Server
	// Run does the work, until taking ends: then no more work is to be taken.
	// When doing ends, work must stop.
	Run func(taking, doing context.Context, r Resources) error
}

// ErrUsage is returned when the command line or the environment is wrong.
var ErrUsage = errors.New("usage")

// Main runs the role and exits: with 0 after a stop by signal, with 2 for bad
// arguments or settings, with 1 for any other error.
func Main(role Role, args []string) {
	SilenceLibraries()
	err := role.main(args, os.Stdout, os.Stderr)
	switch {
	case err == nil:
		return
	case errors.Is(err, ErrUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", role.Name, err)
	os.Exit(1)
}

// SilenceLibraries turns package log off, which nothing of ours uses. net/http
// does: it logs a response that no call asked for with all its content.
func SilenceLibraries() { stdlog.SetOutput(io.Discard) }

func (role Role) main(args []string, out, logs io.Writer) error {
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		return role.help(out)
	}
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no arguments; it is configured by environment variables: see %s --help", ErrUsage, role.Name, role.Name)
	}
	if err := config.Load(role.Settings); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	log := config.NewLogger(role.Process.Logging, logs)
	taking, doing, stop := daemon.OnSignals(context.Background())
	defer stop()
	admin, err := StartAdmin(taking, role.Process.Admin, role.Process.TracesOn(), role.Daemon != nil, log)
	if err != nil {
		return err
	}
	defer admin.Stop()
	tracer, stopTraces, err := StartTraces(taking, "fusillade-"+role.Name, &role.Process.Traces, admin.Telemetry(), log)
	if err != nil {
		return err
	}
	defer stopTraces()
	var entrance *door
	if role.Server != nil {
		if entrance, err = openDoor(taking, *role.Server, log); err != nil {
			return err
		}
		defer entrance.close()
	}
	start := starter{log: log, timeout: role.Process.Startup.Timeout.OrZero(), say: admin.WaitsFor}
	resources, err := connect(role.Name, role.Process, role.Daemon, log, func(steps []step) error { return start.until(taking, steps) })
	if err != nil {
		if taking.Err() != nil {
			return nil // told to stop while it waited
		}
		return err
	}
	defer func() {
		admin.Stop() // it looks at what is closed next
		resources.Close()
	}()
	resources.door, resources.Tracer = entrance, tracer
	resources.ShownBy(admin)
	releasing, stopReleasing := context.WithCancel(doing)
	var memory sync.WaitGroup
	memory.Go(func() { ReleaseMemory(releasing) })
	defer memory.Wait()
	defer stopReleasing()
	return role.Run(taking, doing, resources)
}

func (role Role) help(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "Usage: %s\n\n%s\nIt is configured by environment variables:\n\n", role.Name, role.About); err != nil {
		return err
	}
	return config.WriteHelp(out, role.Settings)
}
