package main

import (
	"context"
	"errors"
	"time"

	"fusillade/client"
	"fusillade/internal/cli"
	"fusillade/internal/top"
)

type topCmd struct {
	Once    bool   `help:"Print everything once, for scripts."`
	Refresh string `default:"1s" placeholder:"TIME" help:"Time between two looks, from 100ms (default ${default})."`
	remote
}

// minRefresh keeps a typing error from being a load on the server.
const minRefresh = 100 * time.Millisecond

func (c *topCmd) Run(ctx context.Context, t *cli.Terminal) error {
	refresh, err := time.ParseDuration(c.Refresh)
	if err != nil || refresh < minRefresh {
		return cli.Usage(errors.New("--refresh: must be a time from 100ms, such as 2s"))
	}
	if !c.Once && !t.Interactive() {
		return cli.Usage(errors.New("there is no terminal to show it in: add --once"))
	}
	return c.with(func(api *client.Client) error {
		cfg := top.Config{API: api, Server: api.String(), Refresh: refresh, Width: t.OutColumns}
		if c.Once {
			return top.Once(ctx, cfg, t.Out)
		}
		return top.Run(ctx, cfg)
	})
}
