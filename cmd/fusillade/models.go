package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/pipeline"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/streams"
)

type modelsCmd struct {
	Ls     modelsLsCmd     `cmd:"" help:"List the models: limits, slots that are held, what waits, where they escalate to."`
	Set    modelsSetCmd    `cmd:"" help:"Change a model's limit, escalation, endpoint or API key, in force in the whole cluster within a second."`
	Pause  modelsPauseCmd  `cmd:"" help:"Begin no more calls to a model, in the whole cluster, until it is resumed."`
	Resume modelsResumeCmd `cmd:"" help:"Let calls to a model begin again."`
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

func (c *modelsSetCmd) change() (postgres.ModelChange, error) {
	change := postgres.ModelChange{Limit: c.Limit, DefaultEscalation: c.DefaultEscalation}
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
	case c.Limit != nil && (*c.Limit < 0 || *c.Limit > config.MaxModelLimit):
		return change, fmt.Errorf("--limit must be from 0 to %d", config.MaxModelLimit)
	case c.EscalateTo == c.Model:
		return change, errors.New("--escalate-to must be another model")
	}
	if c.EscalateTo != "" || c.NoEscalation {
		to := batch.Model(c.EscalateTo)
		change.EscalateTo = &to
	}
	if c.EscalateBefore != "" {
		before, err := config.ParseWindow(c.EscalateBefore)
		if err == nil && (before%time.Second != 0 || before > maxThreshold) {
			err = fmt.Errorf("it must be whole seconds, at most %s", maxThreshold)
		}
		if err != nil {
			return change, fmt.Errorf("--escalate-before: %w", err)
		}
		change.EscalateBefore = &before
	}
	return change, nil
}

// maxThreshold is about the longest that the database's column holds.
const maxThreshold = 20000 * 24 * time.Hour

func (c *modelsSetCmd) Run(ctx context.Context) error {
	change, err := c.change()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return usage(err)
	}
	if change != (postgres.ModelChange{}) || !c.given() {
		err = changeModel(ctx, c.Model, change)
	}
	if err == nil && c.given() {
		return c.setUpstream(ctx, c.Model)
	}
	if errors.Is(err, batch.ErrConflict) {
		return usage(errors.New("--escalate-before: the model has no escalation of its own: give --escalate-to too"))
	}
	return err
}

type modelsPauseCmd struct {
	Model string `arg:"" placeholder:"MODEL"`
}

func (c *modelsPauseCmd) Run(ctx context.Context) error {
	paused := true
	return changeModel(ctx, c.Model, postgres.ModelChange{Paused: &paused})
}

type modelsResumeCmd struct {
	Model string `arg:"" placeholder:"MODEL"`
}

func (c *modelsResumeCmd) Run(ctx context.Context) error {
	paused := false
	return changeModel(ctx, c.Model, postgres.ModelChange{Paused: &paused})
}

// changeModel writes to Postgres, then wakes the dispatchers. A crash between
// the two costs one claim interval.
func changeModel(ctx context.Context, model string, change postgres.ModelChange) error {
	if model == "" {
		return usage(errors.New("MODEL must not be empty"))
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Store.ChangeModel(ctx, batch.Model(model), change); err != nil {
		return err
	}
	hintWork(r.Conn)
	return nil
}

type modelsLsCmd struct {
	JSON bool `name:"json" help:"Print JSON, a list of objects."`
}

// modelStatus is one model as ls prints it.
type modelStatus struct {
	Model       string `json:"model"`
	Limit       int    `json:"limit"`        // calls in flight, in the whole cluster; 0: no dispatcher has said yet
	LimitSource string `json:"limit_source"` // operator or environment
	Paused      bool   `json:"paused"`
	// Slots that daemons hold, and how many daemons do.
	// Where operators have its calls go; empty: where the consumers' environment
	// says. Whether there is a key for it in the database.
	Upstream    string `json:"upstream,omitempty"`
	UpstreamKey bool   `json:"upstream_key,omitempty"`

	Held    int   `json:"held"`
	Daemons int   `json:"daemons"`
	Pending int64 `json:"pending"` // requests that name the model and were never claimed
	Queued  int64 `json:"queued"`  // messages that no consumer has taken
	Taken   int64 `json:"taken"`   // messages in hand or in backoff

	EscalatesTo      string `json:"escalates_to,omitempty"`
	EscalatesSeconds int64  `json:"escalates_before_seconds,omitempty"`
	EscalationSource string `json:"escalation_source,omitempty"`
}

func (c *modelsLsCmd) Run(ctx context.Context, t *terminal) error {
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	list, err := modelStatuses(ctx, r)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.printJSON(list)
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tLIMIT\tSOURCE\tHELD\tDAEMONS\tPENDING\tQUEUED\tTAKEN\tSTATE\tESCALATES\tUPSTREAM")
	for _, m := range list {
		limit, state, escalates := strconv.Itoa(m.Limit), "", ""
		if m.Limit == 0 {
			limit = "-"
		}
		if m.Paused {
			state = "paused"
		}
		if m.EscalatesTo != "" {
			escalates = fmt.Sprintf("%s@%ds (%s)", m.EscalatesTo, m.EscalatesSeconds, m.EscalationSource)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", m.Model, limit, m.LimitSource, m.Held, m.Daemons,
			m.Pending, m.Queued, m.Taken, state, escalates, m.upstreamText())
	}
	return w.Flush()
}

const fromOperator, fromEnvironment = "operator", "environment"

// modelStatuses puts together what Postgres and the broker know. What comes
// from the dispatchers' environment is as the leading one wrote it.
func modelStatuses(ctx context.Context, r pipeline.Resources) ([]modelStatus, error) {
	set, err := r.Store.ModelSettings(ctx)
	if err != nil {
		return nil, err
	}
	upstreams, err := r.Store.ModelUpstreams(ctx)
	if err != nil {
		return nil, err
	}
	backlog, err := r.Store.Backlog(ctx)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(r.Conn)
	if err != nil {
		return nil, err
	}
	kv, err := js.KeyValue(ctx, streams.SlotsBucket)
	if err != nil {
		return nil, err
	}
	entries, err := slots.List(ctx, kv)
	if err != nil {
		return nil, err
	}
	queues, err := consumers(ctx, js)
	if err != nil {
		return nil, err
	}
	known := make(map[batch.Model]bool)
	for _, models := range [][]batch.Model{slices.Collect(maps.Keys(set)), slices.Collect(maps.Keys(backlog)), slices.Collect(maps.Keys(entries))} {
		for _, m := range models {
			known[m] = true
		}
	}
	list := make([]modelStatus, 0, len(known))
	for _, model := range slices.Sorted(maps.Keys(known)) {
		e, s, q := entries[model], set[model], queues[streams.ConsumerName(model)]
		m := modelStatus{
			Model: string(model), Limit: e.Limit, LimitSource: fromEnvironment, Paused: s.Paused, Held: e.Held(), Daemons: len(e.Holders),
			Upstream: upstreams[model].URL, UpstreamKey: upstreams[model].Key != nil,
			Pending: backlog[model], Queued: int64(q.NumPending), Taken: int64(q.NumAckPending),
		}
		if s.Limit > 0 {
			m.Limit, m.LimitSource = s.Limit, fromOperator
		}
		to := batch.Escalation{Model: e.EscalationModel, Threshold: e.Settings().Escalation.Threshold}
		if m.EscalationSource = fromEnvironment; s.Escalation != nil {
			to, m.EscalationSource = *s.Escalation, fromOperator
		}
		if m.EscalatesTo, m.EscalatesSeconds = string(to.Model), int64(to.Threshold/time.Second); m.EscalatesTo == "" {
			m.EscalationSource = ""
		}
		list = append(list, m)
	}
	return list, nil
}

// consumers are the stream's, by name.
func consumers(ctx context.Context, js jetstream.JetStream) (map[string]jetstream.ConsumerInfo, error) {
	stream, err := js.Stream(ctx, streams.Stream)
	if err != nil {
		return nil, err
	}
	infos := make(map[string]jetstream.ConsumerInfo)
	lister := stream.ListConsumers(ctx)
	for info := range lister.Info() {
		infos[info.Name] = *info
	}
	return infos, lister.Err()
}
