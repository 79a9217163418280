package main

import (
	"fmt"

	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/localrun"
)

type runCmd struct {
	Input            string `short:"i" required:"" placeholder:"FILE|-" help:"Requests, one JSON object per line, as for the OpenAI Batch API; - reads standard input."`
	Output           string `short:"o" required:"" placeholder:"FILE|-" help:"Where to write the results, one JSON object per line; - writes to standard output."`
	Errors           string `placeholder:"FILE" help:"Where to write the requests that failed. Default: the output's name with .errors before its extension."`
	CompletionWindow string `default:"24h" placeholder:"TIME" help:"Time to finish in, such as 90m, 24h or 7d; what is not being called by then expires (default ${default})."`
	Again            bool   `help:"Begin anew, though this input was run to its end before."`
	localFlags
}

func (c *runCmd) Run(s cli.Signals, t *cli.Terminal) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	window, err := config.ParseWindow(c.CompletionWindow)
	if err != nil {
		return cli.Usage(fmt.Errorf("--completion-window: %w", err))
	}
	input, err := cli.OpenInput(c.Input)
	if err != nil {
		return cli.Usage(err)
	}
	defer input.Close()
	outputs, err := cli.NewOutputs(t, c.Output, c.Errors, input)
	if err != nil {
		return cli.Usage(err)
	}
	return localrun.Run(s, t, cfg, localrun.Job{
		Input: input, Outputs: outputs, Window: window, WindowText: c.CompletionWindow, Again: c.Again,
	})
}
