package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"fusillade/client"
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

func (c *completeCmd) Run(ctx context.Context, t *cli.Terminal, parser *kong.Kong) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, candidate := range cli.Candidates(parser.Model.Node, words, func(placeholder, prefix string, flags map[string]string) []string {
		return namesOnServer(ctx, placeholder, prefix, flags["server"])
	}) {
		fmt.Fprintln(t.Out, candidate)
	}
	return nil
}

const (
	// nameWait is how long a person who pressed a key waits at most.
	nameWait = time.Second
	// maxNames are read of each list, the newest first.
	maxNames = 100
)

// namesOnServer are what an argument of a command may be, as the server knows
// it; none: it cannot be asked.
func namesOnServer(ctx context.Context, placeholder, prefix, server string) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	take := func(name string, err error) bool {
		if err == nil && strings.HasPrefix(name, prefix) {
			names = append(names, cli.Plain(name))
		}
		return err == nil
	}
	_ = (&remote{Server: server}).with(func(api *client.Client) error {
		switch placeholder {
		case "BATCH":
			for b, err := range api.Batches(ctx, maxNames) {
				if !take(b.ID, err) {
					return err
				}
			}
		case "FILE_ID":
			for f, err := range api.Files(ctx, maxNames) {
				if !take(f.ID, err) {
					return err
				}
			}
		case "MODEL":
			for m, err := range api.Models(ctx) {
				if !take(m.ID, err) || len(names) == maxNames {
					return err
				}
			}
		}
		return nil
	})
	return names
}
