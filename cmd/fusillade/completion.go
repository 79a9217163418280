package main

import (
	"fmt"

	"github.com/alecthomas/kong"

	"fusillade/internal/cli"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (c *completionCmd) Run(t *cli.Terminal) error {
	_, err := fmt.Fprint(t.Out, cli.CompletionScripts[c.Shell])
	return err
}

// completeCmd prints what the last word may become, one candidate per line.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

func (c *completeCmd) Run(t *cli.Terminal, parser *kong.Kong) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range cli.Candidates(parser.Model.Node, words) {
		fmt.Fprintln(t.Out, candidate)
	}
	return nil
}
