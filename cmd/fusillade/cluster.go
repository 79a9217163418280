package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"fusillade/client"
	"fusillade/internal/cli"
	"fusillade/internal/operator"
)

type ownersCmd struct {
	Ls  ownersLsCmd  `cmd:"" help:"List the owners that have a weight of their own."`
	Set ownersSetCmd `cmd:"" help:"Change an owner's share of each model, relative to others who wait for it."`
}

type ownersSetCmd struct {
	Name   string  `arg:"" placeholder:"NAME" help:"As in created_by of the owner's batches."`
	Weight float64 `required:"" placeholder:"N" help:"From 0.01 to 1000; an owner without one has 1. 0 removes it."`
}

func (c *ownersSetCmd) Run(ctx context.Context) error {
	if err := operator.CheckWeight(c.Name, c.Weight); err != nil {
		return err
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	return operator.SetOwnerWeight(ctx, r.Store, r.Conn, c.Name, c.Weight)
}

type ownersLsCmd struct{ formatFlags }

// ownerWeight is a line of owners ls.
type ownerWeight struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
}

func (c *ownersLsCmd) Run(ctx context.Context, t *cli.Terminal) error {
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	weights, err := r.Store.OwnerWeights(ctx)
	if err != nil {
		return err
	}
	lines := func(yield func(ownerWeight, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(weights)) {
			if !yield(ownerWeight{name, weights[name]}, nil) {
				return
			}
		}
	}
	return cli.PrintList(t, c.format(), lines, cli.RawLine, []cli.Column[ownerWeight]{
		{Name: "OWNER", Cell: func(o ownerWeight) string { return o.Name }},
		{Name: "WEIGHT", Cell: func(o ownerWeight) string { return fmt.Sprint(o.Weight) }},
	}...)
}

type daemonsCmd struct {
	Ls daemonsLsCmd `cmd:"" help:"List the daemons with what they report."`
	remote
}

type daemonsLsCmd struct {
	All bool `help:"Also those that have ended, for a day."`
	formatFlags
}

func (c *daemonsLsCmd) Run(ctx context.Context, t *cli.Terminal, daemons *daemonsCmd) error {
	return daemons.with(func(api *client.Client) error {
		return cli.PrintList(t, c.format(), api.Daemons(ctx, c.All), func(d client.Daemon) json.RawMessage { return d.JSON }, daemonColumns...)
	})
}

var daemonColumns = []cli.Column[client.Daemon]{
	{Name: "ID", Cell: func(d client.Daemon) string { return d.ID }},
	{Name: "ROLE", Cell: func(d client.Daemon) string { return d.Role }},
	{Name: "HOST", Wide: true, Cell: func(d client.Daemon) string { return d.Host }},
	{Name: "PID", Wide: true, Cell: func(d client.Daemon) string { return strconv.Itoa(d.PID) }},
	{Name: "STATUS", Cell: func(d client.Daemon) string { return d.Status }},
	{Name: "HEARTBEAT", Cell: func(d client.Daemon) string {
		return (time.Duration(d.HeartbeatAgeMS) * time.Millisecond).Round(100 * time.Millisecond).String()
	}},
	{Name: "INFLIGHT", Cell: func(d client.Daemon) string { return strconv.Itoa(d.InFlight) }},
	{Name: "PROCESSED", Wide: true, Cell: func(d client.Daemon) string { return strconv.FormatInt(d.Processed, 10) }},
	{Name: "FAILED", Wide: true, Cell: func(d client.Daemon) string { return strconv.FormatInt(d.Failed, 10) }},
}
