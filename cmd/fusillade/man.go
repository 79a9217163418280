package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"fusillade/internal/cli"
	"fusillade/internal/daemon"
)

type manCmd struct {
	Dir string `arg:"" optional:"" placeholder:"DIR" help:"Where to write a page for each command, such as /usr/local/share/man/man1. Default: print fusillade(1)."`
}

// Run writes the pages from the commands themselves, so that they fit them.
func (c *manCmd) Run(t *cli.Terminal, parser *kong.Kong) error {
	if c.Dir == "" {
		return cli.WriteManPage(t.Out, parser.Model.Node, daemon.Version)
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return err
	}
	pages := cli.ManPages(parser.Model)
	for name, node := range pages {
		if err := writeManPage(filepath.Join(c.Dir, name+".1"), node); err != nil {
			return err
		}
	}
	t.Notef("%d pages are in %s", len(pages), c.Dir)
	return nil
}

func writeManPage(path string, node *kong.Node) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = cli.WriteManPage(f, node, daemon.Version)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
