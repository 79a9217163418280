package main

import (
	"context"
	"encoding/json"
	"strconv"

	"fusillade/internal/cli"
	"fusillade/internal/client"
)

type batchesErrorsCmd struct {
	ID string `arg:"" placeholder:"BATCH"`
	jsonFlag
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
		list := func(yield func(client.ErrorGroup, error) bool) {
			for _, g := range groups {
				if !yield(g, nil) {
					return
				}
			}
		}
		raw := func(g client.ErrorGroup) json.RawMessage { return g.JSON }
		if err := cli.PrintList(t, c.JSON, list, raw, "COUNT CODE STATUS STATE EXAMPLE MESSAGE", func(g client.ErrorGroup) []string {
			status, state := "-", "goes on"
			if g.StatusCode != 0 {
				status = strconv.Itoa(g.StatusCode)
			}
			if g.Ended {
				state = "ended"
			}
			return []string{strconv.FormatInt(g.Count, 10), cli.Plain(g.Code), status, state, cli.Plain(g.CustomID), cli.Plain(g.Message)}
		}); err != nil {
			return err
		}
		if partial {
			t.Notef("there are more failures than were counted")
		}
		return nil
	})
}
