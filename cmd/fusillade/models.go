package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fusillade/internal/client"
	"fusillade/internal/config"
	"fusillade/internal/control"
)

type modelsCmd struct {
	Ls     modelsLsCmd     `cmd:"" help:"List the models: limits, slots that are held, what waits, where they escalate to."`
	Demand modelsDemandCmd `cmd:"" help:"List what waits, by model and completion window, with the earliest deadline."`
	Set    modelsSetCmd    `cmd:"" help:"Change a model's limit, escalation, endpoint or API key, in force in the whole cluster within a second."`
	Pause  modelsPauseCmd  `cmd:"" help:"Begin no more calls to a model, in the whole cluster, until it is resumed."`
	Resume modelsResumeCmd `cmd:"" help:"Let calls to a model begin again."`
	remote
}

type modelsSetCmd struct {
	Model             string `arg:"" placeholder:"MODEL"`
	Limit             *int   `placeholder:"N" help:"Calls in flight, in the whole cluster; 0: as the dispatchers' environment says."`
	EscalateTo        string `placeholder:"MODEL" help:"Model that requests go to when little time is left before their batch expires."`
	EscalateBefore    string `placeholder:"TIME" help:"How little, such as 900s (900s if it was never said)."`
	NoEscalation      bool   `help:"They go nowhere else, whatever the dispatchers' environment says."`
	DefaultEscalation bool   `help:"They go where the dispatchers' environment says."`
	upstreamFlags
}

func (c *modelsSetCmd) change() (client.ModelChange, error) {
	change := client.ModelChange{Limit: c.Limit, DefaultEscalation: c.DefaultEscalation}
	escalation := 0
	for _, given := range []bool{c.EscalateTo != "" || c.EscalateBefore != "", c.NoEscalation, c.DefaultEscalation} {
		if given {
			escalation++
		}
	}
	switch {
	case c.Limit == nil && escalation == 0 && !c.given():
		return change, errors.New("nothing to set: give --limit, --escalate-to, --escalate-before, --no-escalation, --default-escalation, --upstream, --api-key-env, --api-key-stdin or --default-upstream")
	case escalation > 1:
		return change, errors.New("--escalate-to and --escalate-before, --no-escalation and --default-escalation exclude each other")
	case c.Limit != nil && (*c.Limit < 0 || *c.Limit > control.MaxLimit):
		return change, fmt.Errorf("--limit must be from 0 to %d", control.MaxLimit)
	case c.EscalateTo == c.Model:
		return change, errors.New("--escalate-to must be another model")
	}
	if c.EscalateTo != "" || c.NoEscalation {
		change.EscalatesTo = &c.EscalateTo
	}
	if c.EscalateBefore != "" {
		before, err := config.ParseWindow(c.EscalateBefore)
		if err == nil && (before%time.Second != 0 || before > control.MaxThreshold) {
			err = fmt.Errorf("it must be whole seconds, at most %s", control.MaxThreshold)
		}
		if err != nil {
			return change, fmt.Errorf("--escalate-before: %w", err)
		}
		seconds := int64(before / time.Second)
		change.EscalatesSeconds = &seconds
	}
	return change, nil
}

func (c *modelsSetCmd) Run(ctx context.Context, models *modelsCmd) error {
	change, err := c.change()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return usage(err)
	}
	if change != (client.ModelChange{}) || !c.given() {
		err = models.change(ctx, c.Model, change)
	}
	if err == nil && c.given() {
		return c.setUpstream(ctx, c.Model)
	}
	if client.HasStatus(err, http.StatusConflict) {
		return usage(errors.New("--escalate-before: the model has no escalation of its own: give --escalate-to too"))
	}
	return err
}

type modelsPauseCmd struct {
	Model string `arg:"" placeholder:"MODEL"`
}

func (c *modelsPauseCmd) Run(ctx context.Context, models *modelsCmd) error {
	paused := true
	return models.change(ctx, c.Model, client.ModelChange{Paused: &paused})
}

type modelsResumeCmd struct {
	Model string `arg:"" placeholder:"MODEL"`
}

func (c *modelsResumeCmd) Run(ctx context.Context, models *modelsCmd) error {
	paused := false
	return models.change(ctx, c.Model, client.ModelChange{Paused: &paused})
}

func (c *modelsCmd) change(ctx context.Context, model string, change client.ModelChange) error {
	if model == "" {
		return usage(errors.New("MODEL must not be empty"))
	}
	return c.with(func(api *client.Client) error {
		_, err := api.ChangeModel(ctx, model, change)
		return err
	})
}

type modelsLsCmd struct {
	JSON bool `name:"json" help:"Print JSON, one object per line, as the server sent it."`
}

// Run lists the models as operators see them; for everybody else, their names.
func (c *modelsLsCmd) Run(ctx context.Context, t *terminal, models *modelsCmd) error {
	return models.with(func(api *client.Client) error {
		err := c.statuses(ctx, t, api)
		if client.HasStatus(err, http.StatusForbidden) {
			return list(t, c.JSON, api.Models(ctx), func(m client.Model) json.RawMessage { return m.JSON }, "MODEL",
				func(m client.Model) []string { return []string{plain(m.ID)} })
		}
		return err
	})
}

func (c *modelsLsCmd) statuses(ctx context.Context, t *terminal, api *client.Client) error {
	return list(t, c.JSON, api.ModelStatuses(ctx), func(m client.ModelStatus) json.RawMessage { return m.JSON },
		"MODEL LIMIT SOURCE HELD DAEMONS PENDING QUEUED TAKEN STATE ESCALATES UPSTREAM", func(m client.ModelStatus) []string {
			limit, state, escalates := strconv.Itoa(m.Limit), "", ""
			if m.Limit == 0 {
				limit = "-"
			}
			if m.Paused {
				state = "paused"
			}
			if m.EscalatesTo != "" {
				escalates = fmt.Sprintf("%s@%ds (%s)", plain(m.EscalatesTo), m.EscalatesSeconds, m.EscalationSource)
			}
			return []string{plain(m.ID), limit, m.LimitSource, strconv.Itoa(m.Held), strconv.Itoa(m.Daemons),
				strconv.FormatInt(m.Pending, 10), strconv.FormatInt(m.Queued, 10), strconv.FormatInt(m.Taken, 10), state, escalates, upstreamText(m)}
		})
}
