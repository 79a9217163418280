package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/hold"
	"fusillade/internal/rate"
	"fusillade/internal/seal"
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
	// Auto is of a limit that is found while it runs; nil: it is a number.
	Auto   *slots.Auto
	Paused bool
	// Rate is the rate limit, and Used what the last minute has had of it.
	Rate       batch.RateLimit
	RateSource Source // empty: there is no rate limit
	Used       rate.Amount
	Held       int // slots that daemons hold
	Daemons    int // that hold slots
	Holders    []Holder
	Pending    int64 // requests that name the model and were never claimed
	Queued     int64 // messages that no consumer has taken
	Taken      int64 // messages in flight or in backoff
	// Escalation has no model if there is none.
	Escalation       batch.Escalation
	EscalationSource Source // empty: there is no escalation
	// Upstream is where operators have its calls go; empty: where the consumers'
	// environment says.
	Upstream    string
	UpstreamKey bool // the database holds a key for its calls
	// Options is how operators have its endpoint spoken to, without what may be
	// secret in it; nil: they have not said.
	Options *endpoint.Options
	// Holds are the pauses of credentials that the model's requests are called
	// with, that of all batches without a key of their own first.
	Holds []hold.Hold
}

// Holder is a daemon that holds slots of a model.
type Holder struct {
	Daemon     string // its id
	Held, Want int
}

func holders(e slots.Entry) []Holder {
	list := make([]Holder, 0, len(e.Holders))
	for _, id := range slices.Sorted(maps.Keys(e.Holders)) {
		list = append(list, Holder{id, e.Holders[id].Held, e.Holders[id].Want})
	}
	return list
}

// Models puts together what Postgres and the broker know about every model.
// What comes from the dispatchers' environment is as the leading one wrote it.
func (c *Controller) Models(ctx context.Context) ([]ModelStatus, error) {
	set, err := c.cfg.Store.ModelSettings(ctx)
	if err != nil {
		return nil, err
	}
	upstreams, err := c.cfg.Store.ModelUpstreams(ctx)
	if err != nil {
		return nil, err
	}
	pending, err := c.cfg.Store.PendingByModel(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	kv, err := c.js.KeyValue(ctx, streams.SlotsBucket)
	if err != nil {
		return nil, fmt.Errorf("%w: binding bucket %s: %w", ErrBrokerUnavailable, streams.SlotsBucket, err)
	}
	entries, err := slots.List(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBrokerUnavailable, err)
	}
	used, err := c.rates(ctx)
	if err != nil {
		return nil, err
	}
	queues, err := c.queues(ctx)
	if err != nil {
		return nil, err
	}
	holds, err := c.holds(ctx)
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
			Model: model, Limit: e.Limit, LimitSource: FromEnvironment, Paused: s.Paused, Held: e.Held(), Daemons: len(e.Holders), Holders: holders(e),
			Pending: pending[model], Queued: int64(q.NumPending), Taken: int64(q.NumAckPending),
			Upstream: endpoint.Shown(upstreams[model].URL), UpstreamKey: seal.HoldsSecret(upstreams[model].Key),
		}
		m.Auto = e.Auto
		if s.Limit != 0 {
			m.LimitSource = FromOperator
		}
		if _, _, auto := s.Limit.Auto(); s.Limit > 0 {
			m.Limit, m.Auto = int(s.Limit), nil
		} else if auto && e.Auto == nil {
			m.Limit = 0 // no dispatcher has said yet
		}
		m.Escalation = batch.Escalation{Model: e.EscalationModel, Threshold: e.Settings().Escalation.Threshold}
		if m.EscalationSource = FromEnvironment; s.Escalation != nil {
			m.Escalation, m.EscalationSource = *s.Escalation, FromOperator
		}
		if m.Escalation.Model == "" {
			m.Escalation, m.EscalationSource = batch.Escalation{}, ""
		}
		// What cannot be read is not in force either; consumers say why.
		if m.Options, _ = endpoint.Decode(upstreams[model].Options); m.Options != nil {
			for i, more := range m.Options.More {
				m.Options.More[i] = endpoint.Shown(more)
			}
		}
		m.Holds, m.Used = holds[model], used[model]
		m.Rate = s.Rate.Or(e.Settings().Rate)
		switch {
		case s.Rate != (batch.RateLimit{}):
			m.RateSource = FromOperator
		case m.Rate != (batch.RateLimit{}):
			m.RateSource = FromEnvironment
		}
		list = append(list, m)
	}
	return list, nil
}

// rates are what the last minute has had of the models' rate limits.
func (c *Controller) rates(ctx context.Context) (map[batch.Model]rate.Amount, error) {
	kv, err := c.js.KeyValue(ctx, streams.RatesBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil // no daemon of this release has begun yet
	}
	if err != nil {
		return nil, fmt.Errorf("%w: binding bucket %s: %w", ErrBrokerUnavailable, streams.RatesBucket, err)
	}
	used, err := rate.List(ctx, kv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBrokerUnavailable, err)
	}
	return used, nil
}

// queues are the stream's consumers, by name.
func (c *Controller) queues(ctx context.Context) (map[string]jetstream.ConsumerInfo, error) {
	infos := make(map[string]jetstream.ConsumerInfo)
	for _, shard := range c.cfg.Shards.All() {
		stream, err := c.js.Stream(ctx, shard.Stream())
		if err != nil {
			return nil, fmt.Errorf("%w: binding stream %s: %w", ErrBrokerUnavailable, shard.Stream(), err)
		}
		lister := stream.ListConsumers(ctx)
		for info := range lister.Info() {
			infos[info.Name] = *info
		}
		if err := lister.Err(); err != nil {
			return nil, fmt.Errorf("%w: listing consumers: %w", ErrBrokerUnavailable, err)
		}
	}
	return infos, nil
}
