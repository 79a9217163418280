package main

import (
	"context"
	"encoding/json"
	"strconv"

	"fusillade/internal/client"
)

type modelsDemandCmd struct {
	JSON bool `name:"json" help:"Print JSON, one object per line, as the server sent it."`
}

func (c *modelsDemandCmd) Run(ctx context.Context, t *terminal, models *modelsCmd) error {
	return models.with(func(api *client.Client) error {
		return list(t, c.JSON, api.Demand(ctx), func(d client.Demand) json.RawMessage { return d.JSON },
			"MODEL WINDOW PENDING EXPIRES", func(d client.Demand) []string {
				return []string{plain(d.Model), plain(d.CompletionWindow), strconv.FormatInt(d.Pending, 10), moment(d.ExpiresAt)}
			})
	})
}
