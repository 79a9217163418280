package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/localrun"
)

type runCmd struct {
	File             string `arg:"" optional:"" placeholder:"FILE|-" help:"Requests, one JSON object per line, as for the OpenAI Batch API; - reads standard input."`
	Input            string `short:"i" placeholder:"FILE|-" help:"The same, as a flag."`
	Output           string `short:"o" placeholder:"FILE|-" help:"Where to write the results, one JSON object per line; - writes to standard output."`
	Errors           string `placeholder:"FILE|-" help:"Where to write the requests that failed. Default: the output's name with .errors before its extension; standard output, if the results go there."`
	CompletionWindow string `default:"24h" placeholder:"TIME" help:"Time to finish in, such as 90m, 24h or 7d; what is not being called by then expires (default ${default})."`
	RerunFailed      bool   `aliases:"retry-failed" help:"Run again the requests of this input that failed or expired."`
	Again            bool   `help:"Begin anew, though this input was run before; an unfinished job of it is cancelled."`
	ChangeEndpoint   bool   `help:"Go on with a job that was begun with another endpoint."`
	ResumeModels     bool   `help:"Resume those models of the input that are paused."`
	GiveUpAfter      string `default:"30s" placeholder:"TIME" help:"End, with exit code 3, when the endpoint has refused every call for so long: no connection, a bad key, an unknown model, no quota. 0s: never (default ${default})."`
	budgetFlags
	DryRun bool `help:"Check the file, the settings and that the endpoint can be reached; keep nothing and call nothing."`
	localFlags
}

// defaultConcurrency is the setting that --concurrency overrides.
const defaultConcurrency = "FUSILLADE_DEFAULT_MODEL_CONCURRENCY"

func (c *runCmd) Run(s cli.Signals, t *cli.Terminal) error {
	switch {
	case (c.File == "") == (c.Input == ""):
		return cli.Usage(errors.New("give the input as FILE or by --input"))
	case c.Output == "" && !c.DryRun:
		return cli.Usage(errors.New("missing flags: --output=FILE"))
	case c.Again && (c.RerunFailed || c.ChangeEndpoint):
		return cli.Usage(errors.New("--again excludes --rerun-failed and --change-endpoint"))
	}
	// People who run a file do not know what the endpoint takes. Only one without any
	// limit is found out, so that a limit of the environment stays one.
	if _, set := os.LookupEnv(defaultConcurrency); c.Concurrency == "" && !set {
		c.Concurrency = "auto"
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	budget, err := c.budget()
	if err != nil {
		return err
	}
	window, err := config.ParseWindow(c.CompletionWindow)
	if err != nil {
		return cli.Usage(fmt.Errorf("--completion-window: %w", err))
	}
	giveUp, err := time.ParseDuration(c.GiveUpAfter)
	if err != nil || giveUp < 0 {
		return cli.Usage(fmt.Errorf("--give-up-after: %q is no time such as 30s or 10m", c.GiveUpAfter))
	}
	input, err := cli.OpenInput(cmp.Or(c.File, c.Input))
	if err != nil {
		return cli.Usage(err)
	}
	defer input.Close()
	if c.DryRun {
		return c.dryRun(s.Taking, t, cfg, input)
	}
	outputs, err := cli.NewOutputs(t, c.Output, c.Errors, input)
	if err != nil {
		return cli.Usage(err)
	}
	return localrun.Run(s, t, cfg, localrun.Job{
		Input: input, Outputs: outputs, Window: window, WindowText: c.CompletionWindow,
		Again: c.Again, RerunFailed: c.RerunFailed, ChangeEndpoint: c.ChangeEndpoint,
		ResumeModels: c.ResumeModels, GiveUpAfter: giveUp, Budget: budget,
	})
}

// dryRun goes as far as is free: to the connection, and no call.
func (c *runCmd) dryRun(ctx context.Context, t *cli.Terminal, cfg localrun.Config, input *cli.Input) error {
	if c.Output != "" {
		if _, err := cli.NewOutputs(t, c.Output, c.Errors, input); err != nil {
			return cli.Usage(err)
		}
	}
	if err := checkFile(ctx, t, cfg.Settings, input, false); err != nil {
		return err
	}
	if err := cfg.Reachable(ctx); err != nil {
		return cli.Usage(err)
	}
	t.Notef("the endpoint takes connections; nothing was called, and nothing was kept")
	return nil
}
