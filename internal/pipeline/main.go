package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/upstream"
)

// Binary is a program that runs one kind of daemon of a cluster.
type Binary struct {
	Role     string
	About    string
	Settings config.Settings
	// The sections of Settings that every daemon has.
	Daemon   *config.Daemon
	Postgres *config.Postgres
	NATS     *config.NATS
	Admin    *config.Admin
	Logging  *config.Logging
	Run      func(Turn) error
}

// Turn is one run of a Binary.
type Turn struct {
	Resources
	Taking context.Context // ends when no more work is to be taken
	Doing  context.Context // ends when work must stop
}

// ErrUsage: the command line or the environment is wrong.
var ErrUsage = errors.New("usage")

// Main runs b and exits: with 0 after a stop by signal, with 2 for bad
// arguments or settings, with 1 for any other error.
func Main(b Binary, args []string) {
	err := b.main(args, os.Stdout, os.Stderr)
	switch {
	case err == nil:
		return
	case errors.Is(err, ErrUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", b.Role, err)
	os.Exit(1)
}

func (b Binary) main(args []string, out, logs io.Writer) error {
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		return b.help(out)
	}
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no arguments; it is configured by environment variables: see %s --help", ErrUsage, b.Role, b.Role)
	}
	if err := config.Load(b.Settings, RetryRule(b.Daemon)); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	log := config.NewLogger(*b.Logging, logs)
	taking, doing, stop := daemon.OnSignals(context.Background())
	defer stop()
	resources, err := Connect(taking, b.Role, *b.Postgres, *b.NATS, *b.Daemon, log)
	if err != nil {
		return err
	}
	defer resources.Close()
	stopAdmin, err := resources.ServeAdmin(taking, string(b.Admin.Addr), b.Daemon != nil)
	if err != nil {
		return err
	}
	defer stopAdmin()
	return b.Run(Turn{Resources: resources, Taking: taking, Doing: doing})
}

func (b Binary) help(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "Usage: %s\n\n%s\nIt is configured by environment variables:\n\n", b.Role, b.About); err != nil {
		return err
	}
	return config.WriteHelp(out, b.Settings)
}

// RetryRule checks the setting that only package upstream can read.
func RetryRule(d *config.Daemon) config.Rule {
	return config.Rule{Name: "SHOULD_RETRY", Check: func() error {
		_, err := upstream.ParseStatusSet(d.ShouldRetry)
		return err
	}}
}
