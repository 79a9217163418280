package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"fusillade/internal/postgres"
)

type usersCmd struct {
	Ls  usersLsCmd  `cmd:"" help:"List the users that have a weight of their own."`
	Set usersSetCmd `cmd:"" help:"Change a user's part of each model, relative to others who wait for it."`
}

type usersSetCmd struct {
	Name   string  `arg:"" placeholder:"NAME" help:"As in created_by of the user's batches."`
	Weight float64 `required:"" placeholder:"N" help:"From 0.01 to 1000; who has none counts 1. 0 removes it."`
}

func (c *usersSetCmd) Run(ctx context.Context) error {
	if c.Name == "" {
		return usage(errors.New("NAME must not be empty"))
	}
	if c.Weight != 0 && !(c.Weight >= postgres.MinWeight && c.Weight <= postgres.MaxWeight) {
		return usage(fmt.Errorf("--weight must be 0, or from %v to %v", postgres.MinWeight, postgres.MaxWeight))
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Store.SetOwnerWeight(ctx, c.Name, c.Weight); err != nil {
		return err
	}
	hintWork(r.Conn)
	return nil
}

type usersLsCmd struct {
	JSON bool `name:"json" help:"Print JSON, a list of objects."`
}

func (c *usersLsCmd) Run(ctx context.Context, t *terminal) error {
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	weights, err := r.Store.OwnerWeights(ctx)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(weights))
	if c.JSON {
		type user struct {
			Name   string  `json:"name"`
			Weight float64 `json:"weight"`
		}
		list := make([]user, 0, len(names))
		for _, name := range names {
			list = append(list, user{name, weights[name]})
		}
		return t.printJSON(list)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "USER\tWEIGHT")
	for _, name := range names {
		fmt.Fprintf(w, "%s\t%v\n", name, weights[name])
	}
	return w.Flush()
}
