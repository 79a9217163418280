package main

import (
	"context"
	"encoding/json"
	"strconv"

	"fusillade/client"
	"fusillade/internal/cli"
)

type batchesErrorsCmd struct {
	ID string `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	formatFlags
}

// Run lists the failures of a batch, the most frequent first.
func (c *batchesErrorsCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	return batches.with(func(api *client.Client) error {
		groups, partial, err := api.BatchErrors(ctx, id.String())
		if err != nil {
			return err
		}
		raw := func(g client.ErrorGroup) json.RawMessage { return g.JSON }
		if err := cli.PrintList(t, c.format(), cli.All(groups), raw, errorColumns...); err != nil {
			return err
		}
		if partial {
			t.Notef("there are more failures than were counted")
		}
		return nil
	})
}

var errorColumns = []cli.Column[client.ErrorGroup]{
	{Name: "COUNT", Cell: func(g client.ErrorGroup) string { return strconv.FormatInt(g.Count, 10) }},
	{Name: "CODE", Cell: func(g client.ErrorGroup) string { return g.Code }},
	{Name: "STATUS", Cell: func(g client.ErrorGroup) string {
		if g.StatusCode == 0 {
			return "-"
		}
		return strconv.Itoa(g.StatusCode)
	}},
	{Name: "STATE", Cell: func(g client.ErrorGroup) string {
		if g.Ended {
			return "ended"
		}
		return "goes on"
	}},
	{Name: "EXAMPLE", Flexible: true, Cell: func(g client.ErrorGroup) string { return g.CustomID }},
	{Name: "MESSAGE", Flexible: true, Cell: func(g client.ErrorGroup) string { return g.Message }},
}
