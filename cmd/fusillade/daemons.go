package main

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"fusillade/internal/client"
)

type daemonsCmd struct {
	Ls daemonsLsCmd `cmd:"" help:"List the daemons with what they say of themselves."`
	remote
}

type daemonsLsCmd struct {
	All  bool `help:"Also those that have ended, for a day."`
	JSON bool `name:"json" help:"Print JSON, one object per line, as the server sent it."`
}

// Run lists the daemons.
func (c *daemonsLsCmd) Run(ctx context.Context, t *terminal, daemons *daemonsCmd) error {
	return daemons.with(func(api *client.Client) error {
		return list(t, c.JSON, api.Daemons(ctx, c.All), func(d client.Daemon) json.RawMessage { return d.JSON },
			"ID ROLE HOST PID STATUS HEARTBEAT INFLIGHT PROCESSED FAILED", func(d client.Daemon) []string {
				age := time.Duration(d.HeartbeatAgeMS) * time.Millisecond
				return []string{d.ID, d.Role, plain(d.Host), strconv.Itoa(d.PID), d.Status, age.Round(100 * time.Millisecond).String(),
					strconv.Itoa(d.InFlight), strconv.FormatInt(d.Processed, 10), strconv.FormatInt(d.Failed, 10)}
			})
	})
}
