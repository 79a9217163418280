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
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/operator"
)

type commands struct {
	Run        runCmd           `cmd:"" help:"Run a file of requests on this machine and write every result."`
	Check      checkCmd         `cmd:"" help:"Read a file of requests and call nothing: all bad lines, or what it asks for and may cost."`
	Config     configCmd        `cmd:"" help:"Check the settings."`
	Jobs       jobsCmd          `cmd:"" help:"Manage the jobs of run: list and remove them."`
	Serve      serveCmd         `cmd:"" help:"Serve the OpenAI-compatible Files and Batches API, all on this machine."`
	Files      filesCmd         `cmd:"" help:"Manage files on a server: list, upload, read and delete them."`
	Batches    batchesCmd       `cmd:"" help:"Manage batches on a server: create, watch, cancel, rerun and delete them, and write their results."`
	Models     modelsCmd        `cmd:"" help:"Manage models in a cluster: limits, endpoints, escalations, pauses."`
	Owners     ownersCmd        `cmd:"" help:"Manage owners' shares of the models in a cluster."`
	Users      ownersCmd        `cmd:"" hidden:"" help:"The former name of owners."`
	Daemons    daemonsCmd       `cmd:"" help:"List the daemons of a cluster."`
	Top        topCmd           `cmd:"" help:"Show what a cluster does, live, and steer it by keys."`
	Keys       keysCmd          `cmd:"" help:"Manage API keys."`
	Webhooks   webhooksCmd      `cmd:"" help:"Manage webhook endpoints."`
	Secrets    secretsCmd       `cmd:"" help:"Encrypt the secrets in a database with a new key."`
	Migrate    migrateCmd       `cmd:"" help:"Migrate a database's schema."`
	Health     healthCmd        `cmd:"" help:"Ask a process of this environment whether it is ready; exit code 1: it is not."`
	Mock       mockCmd          `cmd:"" help:"Serve a mock model endpoint."`
	Bench      benchCmd         `cmd:"" help:"Measure the throughput on this machine against a bare HTTP loop."`
	Completion completionCmd    `cmd:"" help:"Print a shell completion script."`
	Man        manCmd           `cmd:"" help:"Write the manual pages."`
	Complete   completeCmd      `cmd:"" hidden:""`
	Version    kong.VersionFlag `help:"Print the version."`
	Quiet      bool             `short:"q" help:"Print results and errors only: no notes, no progress."`
	Progress   cli.ProgressMode `enum:"auto,bar,lines,json,none" default:"auto" placeholder:"HOW" help:"How to show progress: bar, lines, json (an object a second, on standard error), none; auto: a bar at a terminal, else lines (default ${default})."`
}

func main() {
	app.SilenceLibraries()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, errOut io.Writer) int {
	var c commands
	code := -1
	parser := kong.Must(&c,
		kong.Name("fusillade"),
		kong.Description("Pushes huge batches of LLM requests through model endpoints."),
		kong.Vars{"version": daemon.Version, "data_dir_help": databaseHelp},
		kong.Writers(out, errOut),
		kong.Exit(func(n int) { code = n }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.Help(help),
	)
	switch {
	case len(args) == 0:
		args = []string{"--help"}
	case args[0] == "help": // as of other programs
		args = append(args[1:], "--help")
	case args[0] == "version":
		args = []string{"--version"}
	}
	k, err := parser.Parse(args)
	if code >= 0 { // help or version was printed
		return code
	}
	if err != nil {
		fmt.Fprintf(errOut, "fusillade: %v\nTry: %s --help\n", err, failedCommand(err))
		return cli.ExitUsage
	}
	k.Bind(parser)
	taking, doing, stop := daemon.OnSignals(context.Background())
	defer stop()
	k.BindTo(taking, (*context.Context)(nil))
	terminal := &cli.Terminal{Out: out, Err: errOut, Dumb: os.Getenv("TERM") == "dumb", Quiet: c.Quiet, Progress: c.Progress}
	if c.Quiet {
		terminal.Progress = cli.ProgressNone
	}
	return exitCode(k.Run(cli.Signals{Taking: taking, Doing: doing}, terminal), errOut)
}

// failedCommand is the command whose arguments could not be parsed.
func failedCommand(err error) string {
	name := "fusillade"
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		for _, step := range parse.Context.Path {
			if step.Command != nil {
				name += " " + step.Command.Name
			}
		}
	}
	return name
}

func exitCode(err error, errOut io.Writer) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, cli.ErrInterrupted): // and was told so
		return cli.ExitInterrupted
	}
	fmt.Fprintf(errOut, "fusillade: %v\n", err)
	var exit *cli.ExitError
	var input *operator.InputError
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case errors.Is(err, app.ErrUsage), errors.As(err, &input):
		return cli.ExitUsage
	case errors.Is(err, context.Canceled):
		return cli.ExitInterrupted
	}
	return cli.ExitFailed
}

// help adds the settings to the help of run and of serve.
func help(options kong.HelpOptions, k *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, k); err != nil {
		return err
	}
	command := k.Selected()
	if command == nil {
		_, err := fmt.Fprint(k.Stdout, "\nThe settings, by environment variable, are in: fusillade run --help\n")
		return err
	}
	if command.Name != "run" && command.Name != "serve" {
		return nil
	}
	fmt.Fprint(k.Stdout, "\nSettings, by environment variable:\n\n")
	return config.WriteHelp(k.Stdout, new(config.Standalone))
}

// loadSettings reads the environment of a command that has all settings.
func loadSettings() (*config.Standalone, error) {
	cfg := new(config.Standalone)
	if err := config.Load(cfg); err != nil {
		return nil, cli.Usage(err)
	}
	return cfg, nil
}
