package main

import (
	"fmt"

	"fusillade/internal/cli"
	"fusillade/internal/localrun"
)

type serveCmd struct {
	Listen string `placeholder:"HOST:PORT" help:"Address to listen on; port 0 takes a free one (FUSILLADE_LISTEN_ADDR)."`
	localFlags
}

func (c *serveCmd) Run(s cli.Signals, t *cli.Terminal) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if c.Listen != "" {
		if err := cfg.Settings.Listen.Set(c.Listen); err != nil {
			return cli.Usage(fmt.Errorf("--listen: %w", err))
		}
	}
	return localrun.Serve(s, t, cfg)
}
