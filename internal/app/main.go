package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/upstream"
)

// Binary is a program that runs one kind of daemon of a cluster.
type Role struct {
	Role     string
	About    string
	Settings config.Settings
	// The sections of Settings that every daemon has; only the API, which is
	// none and leaves the stream alone, has no Daemon.
	Daemon   *config.Daemon
	Postgres *config.Postgres
	NATS     *config.NATS
	Admin    *config.Admin
	Logging  *config.Logging
	Run      func(Env) error
}

// Env is one run of a Binary.
type Env struct {
	Resources
	Taking context.Context // ends when no more work is to be taken
	Doing  context.Context // ends when work must stop
}

// ErrUsage: the command line or the environment is wrong.
var ErrUsage = errors.New("usage")

// Main runs b and exits: with 0 after a stop by signal, with 2 for bad
// arguments or settings, with 1 for any other error.
func Main(b Role, args []string) {
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

func (b Role) main(args []string, out, logs io.Writer) error {
	if slices.Contains(args, "--help") || slices.Contains(args, "-h") {
		return b.help(out)
	}
	if len(args) > 0 {
		return fmt.Errorf("%w: %s takes no arguments; it is configured by environment variables: see %s --help", ErrUsage, b.Role, b.Role)
	}
	var rules []config.Rule
	if b.Daemon != nil {
		rules = append(rules, RetryRule(b.Daemon))
	}
	if err := config.Load(b.Settings, rules...); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	log := config.NewLogger(*b.Logging, logs)
	taking, doing, stop := daemon.OnSignals(context.Background())
	defer stop()
	resources, err := b.connect(taking, log)
	if err != nil {
		return err
	}
	defer resources.Close()
	stopAdmin, err := resources.ServeAdmin(taking, string(b.Admin.Addr), b.Daemon != nil)
	if err != nil {
		return err
	}
	defer stopAdmin()
	return b.Run(Env{Resources: resources, Taking: taking, Doing: doing})
}

func (b Role) connect(ctx context.Context, log *slog.Logger) (Resources, error) {
	if b.Daemon != nil {
		return Connect(ctx, b.Role, *b.Postgres, *b.NATS, *b.Daemon, log)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	return open(ctx, b.Role, *b.Postgres, *b.NATS, log)
}

func (b Role) help(out io.Writer) error {
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
