// Command fusillade is the one command for people: run a file of requests on
// this machine, work with files and batches on a server, prepare a database,
// set a model's limit, measure, or mock a model endpoint.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"fusillade/internal/app"
	"fusillade/internal/config"
	"fusillade/internal/daemon"
)

// Exit codes. Errors of any other kind end with exitFailed too.
const (
	exitFailed      = 1   // some requests failed, or a command could not do its work
	exitUsage       = 2   // bad usage or bad input, or nothing could be started
	exitInterrupted = 130 // stopped by a signal; the job can be taken up again
)

type cli struct {
	Run        runCmd           `cmd:"" help:"Run a file of requests on this machine and write every result."`
	Serve      serveCmd         `cmd:"" help:"Serve the OpenAI-compatible Files and Batches API, all on this machine."`
	Keys       keysCmd          `cmd:"" help:"Make, list and revoke API keys."`
	Webhooks   webhooksCmd      `cmd:"" help:"Say where owners are told of the ends of their batches."`
	Secrets    secretsCmd       `cmd:"" help:"Encrypt what is secret in the database anew, after a change of the encryption key."`
	Mock       mockCmd          `cmd:"" help:"Serve a mock model endpoint."`
	Bench      benchCmd         `cmd:"" help:"Measure the pipeline on this machine against a bare HTTP loop."`
	Files      filesCmd         `cmd:"" help:"List, upload, read and delete files on a server."`
	Batches    batchesCmd       `cmd:"" help:"Create batches on a server, see how far they are, write their results, cancel, retry or delete them."`
	Models     modelsCmd        `cmd:"" help:"Show or change models' limits and escalations in a cluster, pause and resume them."`
	Users      usersCmd         `cmd:"" help:"Show or change users' parts of the models in a cluster."`
	Daemons    daemonsCmd       `cmd:"" help:"Show who runs in a cluster."`
	Migrate    migrateCmd       `cmd:"" help:"Bring a database's schema up to date."`
	Completion completionCmd    `cmd:"" help:"Print what makes a shell complete commands and flags."`
	Complete   completeCmd      `cmd:"" hidden:""`
	Version    kong.VersionFlag `help:"Print the version."`
}

// signals are the two contexts of a command: a first signal ends taking, a
// second one ends doing.
type signals struct{ taking, doing context.Context }

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// errInterrupted: the user stopped the command, which has said what that means.
var errInterrupted = errors.New("interrupted")

func usage(err error) error { return &exitError{exitUsage, err} }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errOut io.Writer) int {
	var c cli
	code := -1
	parser := kong.Must(&c,
		kong.Name("fusillade"),
		kong.Description("Pushes huge batches of LLM requests through model endpoints."),
		kong.Vars{"version": daemon.Version},
		kong.Writers(out, errOut),
		kong.Exit(func(n int) { code = n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Help(help),
	)
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if code >= 0 { // help or version was printed
		return code
	}
	if err != nil {
		fmt.Fprintf(errOut, "fusillade: %v\nTry: fusillade --help\n", err)
		return exitUsage
	}
	k.Bind(parser)
	taking, doing, stop := daemon.OnSignals(context.Background())
	defer stop()
	k.BindTo(taking, (*context.Context)(nil))
	return exitCode(k.Run(signals{taking, doing}, &terminal{out: out, err: errOut}), errOut)
}

func exitCode(err error, errOut io.Writer) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInterrupted): // and was told so
		return exitInterrupted
	}
	fmt.Fprintf(errOut, "fusillade: %v\n", err)
	var exit *exitError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.Is(err, app.ErrUsage):
		return exitUsage
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitFailed
}

// help adds the settings to the help of the program itself, of run and of serve.
func help(options kong.HelpOptions, k *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, k); err != nil {
		return err
	}
	if command := k.Selected(); command != nil && command.Name != "run" && command.Name != "serve" {
		return nil
	}
	fmt.Fprint(k.Stdout, "\nSettings, by environment variable:\n\n")
	return config.WriteHelp(k.Stdout, new(config.Standalone))
}

// loadSettings reads the environment of a command that has all settings.
func loadSettings() (*config.Standalone, error) {
	cfg := new(config.Standalone)
	if err := config.Load(cfg); err != nil {
		return nil, usage(err)
	}
	return cfg, nil
}
