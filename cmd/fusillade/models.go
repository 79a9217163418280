package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/control"
)

type modelsCmd struct {
	Ls     modelsLsCmd     `cmd:"" help:"List the models: limits, held slots, pending requests, escalations."`
	Demand modelsDemandCmd `cmd:"" help:"List pending requests by model and completion window, with the earliest deadline."`
	Set    modelsSetCmd    `cmd:"" help:"Change a model's limit, rate limit, escalation, endpoint or API key, in force in the whole cluster within a second."`
	Pause  modelsPauseCmd  `cmd:"" help:"Pause a model in the whole cluster: no call to it begins until it is resumed."`
	Resume modelsResumeCmd `cmd:"" help:"Resume a paused model."`
	Lift   modelsLiftCmd   `cmd:"" help:"Lift the holds of a model, which its endpoint asked for with Retry-After, or because it refused every call."`
	remote
}

type modelsSetCmd struct {
	Model             string `arg:"" placeholder:"MODEL" help:"Its name, as models ls lists it."`
	Limit             string `placeholder:"N|auto[:MIN-MAX]" help:"Calls in flight, in the whole cluster; auto: as many as the endpoint takes; 0: as the dispatchers' environment says."`
	EscalateTo        string `placeholder:"MODEL" help:"Model that requests go to when little time is left before their batch expires."`
	EscalateBefore    string `placeholder:"TIME" help:"How little, such as 900s (900s if it was never set)."`
	NoEscalation      bool   `help:"Switch escalation off, whatever the dispatchers' environment says."`
	DefaultEscalation bool   `help:"Escalate as the dispatchers' environment says."`
	rateFlags
	upstreamFlags
}

func (c *modelsSetCmd) change() (client.ModelChange, error) {
	change := client.ModelChange{DefaultEscalation: c.DefaultEscalation, RequestsPerMinute: c.Rpm, TokensPerMinute: c.Tpm}
	escalation := 0
	for _, given := range []bool{c.EscalateTo != "" || c.EscalateBefore != "", c.NoEscalation, c.DefaultEscalation} {
		if given {
			escalation++
		}
	}
	switch {
	case c.Limit == "" && escalation == 0 && c.rateFlags == (rateFlags{}) && !c.given():
		return change, errors.New("nothing to set: give --limit, --rpm, --tpm, --escalate-to, --escalate-before, --no-escalation, --default-escalation, --upstream, --api-key-env, --api-key-stdin, --upstream-auth, --upstream-header, --upstream-model, --upstream-path, --stream, --send-priority or --default-upstream")
	case escalation > 1:
		return change, errors.New("--escalate-to and --escalate-before, --no-escalation and --default-escalation exclude each other")
	case c.rateFlags.check() != nil:
		return change, c.rateFlags.check()
	case c.EscalateTo == c.Model:
		return change, errors.New("--escalate-to must be another model")
	}
	if c.Limit != "" {
		limit, err := batch.ParseLimit(c.Limit)
		if err != nil && c.Limit != "0" {
			return change, fmt.Errorf("--limit %s %w, or 0", cli.Plain(c.Limit), err)
		}
		asked := client.Limit(limit.String())
		change.Limit = &asked
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
		err = c.upstreamFlags.check()
	}
	if err != nil {
		return cli.Usage(err)
	}
	if change != (client.ModelChange{}) || !c.given() {
		err = models.change(ctx, c.Model, change)
	}
	if err == nil && c.given() {
		return c.setUpstream(ctx, models, c.Model)
	}
	if client.HasStatus(err, http.StatusConflict) {
		return cli.Usage(errors.New("--escalate-before: the model has no escalation of its own: give --escalate-to too"))
	}
	return err
}

type modelsPauseCmd struct {
	Model string `arg:"" placeholder:"MODEL" help:"Its name, as models ls lists it."`
}

// Run pauses the model, and says so if nothing is known of it: a name that is mistyped
// pauses nothing.
func (c *modelsPauseCmd) Run(ctx context.Context, t *cli.Terminal, models *modelsCmd) error {
	if c.Model == "" {
		return cli.Usage(errors.New("MODEL must not be empty"))
	}
	return models.with(func(api *client.Client) error {
		known := false
		for m, err := range api.ModelStatuses(ctx) {
			if err != nil {
				return err
			}
			known = known || m.ID == c.Model
		}
		paused := true
		if _, err := api.ChangeModel(ctx, c.Model, client.ModelChange{Paused: &paused}); err != nil {
			return err
		}
		if !known {
			t.Notef("model %s is paused, but has no work and no settings here; is that its name? See: fusillade models ls", cli.Plain(c.Model))
		}
		return nil
	})
}

type modelsResumeCmd struct {
	Model string `arg:"" placeholder:"MODEL" help:"Its name, as models ls lists it."`
}

func (c *modelsResumeCmd) Run(ctx context.Context, models *modelsCmd) error {
	paused := false
	return models.change(ctx, c.Model, client.ModelChange{Paused: &paused})
}

type modelsLiftCmd struct {
	Model string `arg:"" placeholder:"MODEL" help:"Its name, as models ls lists it."`
	Batch string `placeholder:"BATCH" help:"Only the hold of this batch's own API key."`
}

func (c *modelsLiftCmd) Run(ctx context.Context, t *cli.Terminal, models *modelsCmd) error {
	if c.Model == "" {
		return cli.Usage(errors.New("MODEL must not be empty"))
	}
	return models.with(func(api *client.Client) error {
		n, err := api.LiftHolds(ctx, c.Model, c.Batch)
		if err == nil {
			t.Notef("holds of %s that are lifted: %d", cli.Plain(c.Model), n)
		}
		return err
	})
}

func (c *modelsCmd) change(ctx context.Context, model string, change client.ModelChange) error {
	if model == "" {
		return cli.Usage(errors.New("MODEL must not be empty"))
	}
	return c.with(func(api *client.Client) error {
		_, err := api.ChangeModel(ctx, model, change)
		return err
	})
}

type modelsLsCmd struct{ formatFlags }

// Run lists the models as operators see them; for everybody else, their names.
func (c *modelsLsCmd) Run(ctx context.Context, t *cli.Terminal, models *modelsCmd) error {
	return models.with(func(api *client.Client) error {
		err := c.statuses(ctx, t, api)
		if client.HasStatus(err, http.StatusForbidden) {
			return cli.PrintList(t, c.format(), api.Models(ctx), func(m client.Model) json.RawMessage { return m.JSON },
				cli.Column[client.Model]{Name: "MODEL", Cell: func(m client.Model) string { return m.ID }})
		}
		return err
	})
}

func (c *modelsLsCmd) statuses(ctx context.Context, t *cli.Terminal, api *client.Client) error {
	return cli.PrintList(t, c.format(), api.ModelStatuses(ctx), func(m client.ModelStatus) json.RawMessage { return m.JSON }, modelColumns...)
}

var modelColumns = []cli.Column[client.ModelStatus]{
	{Name: "MODEL", Flexible: true, Names: true, Cell: func(m client.ModelStatus) string { return m.ID }},
	{Name: "LIMIT", Cell: modelLimitText},
	{Name: "SOURCE", Wide: true, Cell: func(m client.ModelStatus) string { return m.LimitSource }},
	{Name: "HELD", Cell: func(m client.ModelStatus) string { return strconv.Itoa(m.Held) }},
	{Name: "DAEMONS", Wide: true, Cell: func(m client.ModelStatus) string { return strconv.Itoa(m.Daemons) }},
	{Name: "PENDING", Cell: func(m client.ModelStatus) string { return strconv.FormatInt(m.Pending, 10) }},
	{Name: "QUEUED", Wide: true, Cell: func(m client.ModelStatus) string { return strconv.FormatInt(m.Queued, 10) }},
	{Name: "TAKEN", Cell: func(m client.ModelStatus) string { return strconv.FormatInt(m.Taken, 10) }},
	{Name: "RATE", Wide: true, Cell: rateText},
	{Name: "STATE", Flexible: true, Cell: modelStateText},
	{Name: "ESCALATES", Wide: true, Cell: escalationText},
	{Name: "UPSTREAM", Wide: true, Cell: upstreamText},
}

// modelStateText says why no call begins, if so: the operator's pause, or a hold.
func modelStateText(m client.ModelStatus) string {
	hold := holdText(m.Holds)
	switch {
	case m.Paused && hold != "":
		return "paused; " + hold
	case m.Paused:
		return "paused"
	case hold != "":
		return "held: " + hold
	}
	return "-"
}

func escalationText(m client.ModelStatus) string {
	if m.EscalatesTo == "" {
		return "-"
	}
	return fmt.Sprintf("%s@%ds (%s)", m.EscalatesTo, m.EscalatesSeconds, m.EscalationSource)
}

// modelLimitText is a number, or what an automatic limit is now with its bounds.
func modelLimitText(m client.ModelStatus) string {
	switch {
	case m.Limit == 0:
		return "-"
	case m.LimitAuto != nil:
		return fmt.Sprintf("auto %d (%d–%d)", m.Limit, m.LimitAuto.Min, m.LimitAuto.Max)
	}
	return strconv.Itoa(m.Limit)
}

// holdText says until when which calls wait, and after which status.
func holdText(holds []client.Hold) string {
	if len(holds) == 0 {
		return ""
	}
	h := holds[0]
	text := fmt.Sprintf("%d until %s", h.Status, cli.Moment(h.Until))
	if h.Cause != "" {
		text = fmt.Sprintf("%s since %s: %s", cli.Plain(h.Cause), cli.Moment(h.Since), cli.Plain(h.Detail))
		if h.Owner != "" {
			text += ", of owner " + cli.Plain(h.Owner)
		}
	}
	if h.BatchID != "" {
		text += " (" + cli.Plain(h.BatchID) + ")"
	}
	if more := len(holds) - 1; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

type modelsDemandCmd struct{ formatFlags }

func (c *modelsDemandCmd) Run(ctx context.Context, t *cli.Terminal, models *modelsCmd) error {
	return models.with(func(api *client.Client) error {
		return cli.PrintList(t, c.format(), api.Demand(ctx), func(d client.Demand) json.RawMessage { return d.JSON },
			cli.Column[client.Demand]{Name: "MODEL", Flexible: true, Names: true, Cell: func(d client.Demand) string { return d.Model }},
			cli.Column[client.Demand]{Name: "WINDOW", Cell: func(d client.Demand) string { return d.CompletionWindow }},
			cli.Column[client.Demand]{Name: "PENDING", Cell: func(d client.Demand) string { return strconv.FormatInt(d.Pending, 10) }},
			cli.Column[client.Demand]{Name: "EXPIRES", Cell: func(d client.Demand) string { return cli.Age(d.ExpiresAt) }},
			cli.Column[client.Demand]{Name: "DEADLINE", Wide: true, Cell: func(d client.Demand) string { return cli.Moment(d.ExpiresAt) }})
	})
}
