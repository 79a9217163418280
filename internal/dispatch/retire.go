package dispatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/slots"
	"fusillade/streams"
)

// What a model costs while it has no work is retired once it had none for
// ModelIdle: its consumer of the stream, its entry in the bucket of slots, and with
// that the pools of the consumers, by the leader; its lane, by each dispatcher for
// itself. All of it comes back with the model's next request, whose lane creates
// it.
//
// The leader takes a model for idle whose stream consumer stood still, empty, and
// of which Postgres knows no request that is not finished. Then it removes the
// consumer, then the entry. Work may come at any moment in between:
//
//   - A lane that looks at the consumer finds it gone and creates it, and the entry.
//   - A lane that has looked just before publishes all the same. The stream keeps
//     its messages without a consumer. The leader asks Postgres again after it has
//     removed the entry, and for retiredAgain after, and creates both if there is
//     work.
//   - A daemon that took a message takes a slot, and its holding keeps the entry.
//
// A crash after the consumer was removed leaves an entry without a consumer, which
// the next leader retires; one before the leader has asked again leaves messages
// without a consumer, or a consumer without an entry. The latter is found by the
// next leader's look at the consumers, the former by the sweep, for a request that
// is overdue and has a message. Messages that are delivered again by a consumer
// that was created anew are fenced by claim and delivery like all others.

const (
	// retiredAgain is for how long after a model was retired the leader asks again
	// whether it has work: longer than a claim and its publish may take.
	retiredAgain = time.Minute
	// longestWait is how long a lane waits for a wake, if nothing else ends it.
	longestWait = time.Minute
	// retirePage is the most models that are retired in one step.
	retirePage = 100
)

// idleness is what the leader has seen of an idle model.
type idleness struct {
	since     time.Time
	delivered uint64 // by its consumer, when it was seen first
}

func (d *Dispatcher) retireInterval() time.Duration {
	return min(max(d.cfg.ModelIdle/10, 20*time.Millisecond), 30*time.Second)
}

// retire looks at all stream consumers and entries, mends what an interrupted
// retirement has left, and retires models that are idle for long enough.
func (t *term) retire(ctx context.Context) error {
	opCtx, cancel := context.WithTimeout(ctx, 3*brokerTimeout)
	defer cancel()
	if err := t.look(opCtx, min(t.lookInterval(), t.cfg.ModelIdle/4)); err != nil {
		return err
	}
	consumers, err := t.consumers(opCtx)
	if err != nil {
		return err
	}
	entries, err := t.entriesOfModels(opCtx)
	if err != nil {
		return err
	}
	now := time.Now()
	seen := make(map[batch.Model]bool, len(consumers))
	var idle []batch.Model
	look := func(model batch.Model, delivered uint64) {
		seen[model] = true
		was, known := t.idle[model]
		switch {
		case !known || was.delivered != delivered:
			t.idle[model] = idleness{since: now, delivered: delivered}
		case now.Sub(was.since) >= t.cfg.ModelIdle && len(idle) < retirePage:
			idle = append(idle, model)
		}
	}
	for _, info := range consumers {
		model := streams.ConsumerModel(info.Config)
		if info.Stream != t.shard(model).Stream() {
			continue // see relocate.go
		}
		if info.NumPending == 0 && info.NumAckPending == 0 {
			look(model, info.Delivered.Consumer)
			continue
		}
		delete(t.idle, model)
		seen[model] = true
		if _, ok := entries[model]; !ok {
			t.report(ctx, "a model's slots could not be made", t.ensureModel(ctx, model))
		}
	}
	for model, entry := range entries {
		if !seen[model] && len(entry.Holders) == 0 {
			look(model, 0)
		}
	}
	for model := range t.idle {
		if !seen[model] {
			delete(t.idle, model)
		}
	}
	return errors.Join(t.retireModels(ctx, idle), t.askAgain(ctx))
}

// retireModels retires those of the models that have no work.
func (t *term) retireModels(ctx context.Context, models []batch.Model) error {
	if len(models) == 0 {
		return nil
	}
	busy, err := t.cfg.Store.BusyModels(ctx, models)
	if err != nil {
		return err
	}
	n := 0
	var errs []error
	for _, model := range models {
		delete(t.idle, model)
		if busy[model] || ctx.Err() != nil {
			continue
		}
		t.loop.Busy()
		retired, err := t.retireModel(ctx, model)
		if retired {
			n++
		}
		errs = append(errs, err)
	}
	if n > 0 {
		t.cfg.Log.Info("idle models were retired", "models", n)
	}
	return errors.Join(errs...)
}

func (t *term) retireModel(ctx context.Context, model batch.Model) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	t.retired[model] = time.Now()
	err := t.stream(model).DeleteConsumer(ctx, streams.ConsumerName(model))
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return false, fmt.Errorf("removing the consumer of model %q: %w", model, err)
	}
	if l := t.lane(model); l != nil {
		l.lost.Store(true)
	}
	delete(t.applied, model)
	retired, err := slots.Retire(ctx, t.slots, model)
	if err == nil && !retired { // a daemon has a slot: there was work
		err = t.serve(ctx, model)
	}
	return retired, err
}

// askAgain asks whether models that were retired a short time ago have work.
func (t *term) askAgain(ctx context.Context) error {
	if len(t.retired) == 0 {
		return nil
	}
	models := make([]batch.Model, 0, len(t.retired))
	for model := range t.retired {
		models = append(models, model)
	}
	busy, err := t.cfg.Store.BusyModels(ctx, models)
	if err != nil {
		return err
	}
	var errs []error
	for model, at := range t.retired {
		switch {
		case busy[model]:
			errs = append(errs, t.serve(ctx, model))
			delete(t.retired, model)
		case time.Since(at) > retiredAgain:
			delete(t.retired, model)
		}
	}
	if len(t.retired) == 0 {
		errs = append(errs, slots.Tidy(ctx, t.slots))
	}
	return errors.Join(errs...)
}

// serve makes sure that the model's messages are delivered and called.
func (t *term) serve(ctx context.Context, model batch.Model) error {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	config := t.shard(model).ConsumerConfig(model, t.decided().limit(model).Most(), t.cfg.Lease)
	if _, err := streams.EnsureConsumer(ctx, t.stream(model), config); err != nil {
		return fmt.Errorf("creating the consumer of model %q: %w", model, err)
	}
	return t.ensureModel(ctx, model)
}

// serveIfLost makes a model's consumer and entry if it has no consumer.
func (t *term) serveIfLost(ctx context.Context, model batch.Model) error {
	opCtx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	_, err := t.stream(model).Consumer(opCtx, streams.ConsumerName(model))
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return t.serve(ctx, model)
	}
	return err
}

// ensureModel makes the model's entry, once slots may be given out.
func (d *Dispatcher) ensureModel(ctx context.Context, model batch.Model) error {
	restored, err := d.slotsRestored(ctx)
	if err != nil || !restored { // else the leader does it
		return err
	}
	return slots.EnsureModel(ctx, d.slots, model, d.decided().slots(model))
}

// idleWait is how long a lane that worked last at that time waits for a wake. The
// dispatcher's survey wakes it when there is work.
func (d *Dispatcher) idleWait(worked time.Time) time.Duration {
	if d.cfg.ModelIdle == 0 {
		return longestWait
	}
	return min(longestWait, max(d.cfg.ModelIdle-time.Since(worked), d.cfg.ModelIdle/16))
}

// retireLane forgets a lane that has had nothing to do for ModelIdle. It returns
// false if that is not so, or if there is something by now.
func (d *Dispatcher) retireLane(l *lane, worked time.Time) bool {
	if d.cfg.ModelIdle == 0 || time.Since(worked) < d.cfg.ModelIdle {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.stale.Load() || l.refused.Load() || l.unconfirmed.Load() > 0 || d.lanes[l.model] != l {
		return false
	}
	delete(d.lanes, l.model)
	return true
}
