package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/streams"
)

// Source says who decided a setting of a model.
type Source string

// The sources of settings.
const (
	FromOperator    Source = "operator"
	FromEnvironment Source = "environment" // of the dispatchers
)

// ModelStatus is a model with its settings and what is known of its work.
type ModelStatus struct {
	Model       batch.Model
	Limit       int // calls in flight, in the whole cluster; 0: no dispatcher has said yet
	LimitSource Source
	Paused      bool
	Held        int   // slots that daemons hold
	Daemons     int   // that hold slots
	Pending     int64 // requests that name the model and were never claimed
	Queued      int64 // messages that no consumer has taken
	Taken       int64 // messages in flight or in backoff
	// Escalation has no model if there is none.
	Escalation       batch.Escalation
	EscalationSource Source // empty: there is no escalation
	// Upstream is where operators have its calls go; empty: where the consumers'
	// environment says.
	Upstream    string
	UpstreamKey bool // the database holds a key for its calls
}

// InvalidChangeError is a change of a model that cannot be made.
type InvalidChangeError struct{ Field, Text string }

func (e *InvalidChangeError) Error() string { return e.Field + " " + e.Text }

const (
	// MaxLimit is the highest limit of a model.
	MaxLimit = 1_000_000
	// MaxThreshold is about the longest that the database's column holds.
	MaxThreshold = 20000 * 24 * time.Hour
)

// ChangeModel changes settings of a model for the whole cluster, and wakes the
// dispatchers; a crash between the two costs one claim interval. It returns a
// *InvalidChangeError for what cannot be.
func (o *Controller) ChangeModel(ctx context.Context, model batch.Model, c postgres.ModelChange) error {
	switch {
	case c.Limit != nil && (*c.Limit < 0 || *c.Limit > MaxLimit):
		return &InvalidChangeError{"limit", fmt.Sprintf("must be from 0 to %d", MaxLimit)}
	case c.EscalateTo != nil && *c.EscalateTo == model:
		return &InvalidChangeError{"escalates_to", "must be another model"}
	case c.EscalateBefore != nil && (*c.EscalateBefore < time.Second || *c.EscalateBefore > MaxThreshold):
		return &InvalidChangeError{"escalates_before_seconds", fmt.Sprintf("must be from 1 to %d", int64(MaxThreshold/time.Second))}
	case c.DefaultEscalation && (c.EscalateTo != nil || c.EscalateBefore != nil):
		return &InvalidChangeError{"default_escalation", "excludes an escalation of the model's own"}
	}
	if err := o.cfg.Store.ChangeModel(ctx, model, c); err != nil {
		return err
	}
	o.wake()
	return nil
}

// Models puts together what Postgres and the broker know about every model.
// What comes from the dispatchers' environment is as the leading one wrote it.
func (o *Controller) Models(ctx context.Context) ([]ModelStatus, error) {
	set, err := o.cfg.Store.ModelSettings(ctx)
	if err != nil {
		return nil, err
	}
	upstreams, err := o.cfg.Store.ModelUpstreams(ctx)
	if err != nil {
		return nil, err
	}
	pending, err := o.cfg.Store.PendingByModel(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	kv, err := o.js.KeyValue(ctx, streams.SlotsBucket)
	if err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.SlotsBucket, err)
	}
	entries, err := slots.List(ctx, kv)
	if err != nil {
		return nil, err
	}
	queues, err := o.queues(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[batch.Model]bool)
	for _, models := range [][]batch.Model{slices.Collect(maps.Keys(set)), slices.Collect(maps.Keys(pending)), slices.Collect(maps.Keys(entries))} {
		for _, m := range models {
			known[m] = true
		}
	}
	list := make([]ModelStatus, 0, len(known))
	for _, model := range slices.Sorted(maps.Keys(known)) {
		e, s, q := entries[model], set[model], queues[streams.ConsumerName(model)]
		m := ModelStatus{
			Model: model, Limit: e.Limit, LimitSource: FromEnvironment, Paused: s.Paused, Held: e.Held(), Daemons: len(e.Holders),
			Pending: pending[model], Queued: int64(q.NumPending), Taken: int64(q.NumAckPending),
			Upstream: upstreams[model].URL, UpstreamKey: upstreams[model].Key != nil,
		}
		if s.Limit > 0 {
			m.Limit, m.LimitSource = s.Limit, FromOperator
		}
		m.Escalation = batch.Escalation{Model: e.EscalationModel, Threshold: e.Settings().Escalation.Threshold}
		if m.EscalationSource = FromEnvironment; s.Escalation != nil {
			m.Escalation, m.EscalationSource = *s.Escalation, FromOperator
		}
		if m.Escalation.Model == "" {
			m.Escalation, m.EscalationSource = batch.Escalation{}, ""
		}
		list = append(list, m)
	}
	return list, nil
}

// queues are the stream's consumers, by name.
func (o *Controller) queues(ctx context.Context) (map[string]jetstream.ConsumerInfo, error) {
	stream, err := o.js.Stream(ctx, streams.Stream)
	if err != nil {
		return nil, fmt.Errorf("binding stream %s: %w", streams.Stream, err)
	}
	infos := make(map[string]jetstream.ConsumerInfo)
	lister := stream.ListConsumers(ctx)
	for info := range lister.Info() {
		infos[info.Name] = *info
	}
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("listing consumers: %w", err)
	}
	return infos, nil
}
