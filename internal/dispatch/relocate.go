package dispatch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// relocatePage is how many requests one statement releases.
const relocatePage = 500

// relocate moves models whose stream is another one than it was, because the
// number of shards has changed. What waits for a start on the old one is released,
// and published where it belongs; messages of calls in flight, and of backoffs,
// are removed, and Postgres has their requests: the sweep releases those that
// nobody finishes. Nothing runs twice, as every publish has a claim of its own.
//
// The consumer on the old stream is removed at last, so that a crash before leaves
// it to be found by the next leader. A dispatcher with another number of shards may
// publish to the old stream and create the consumer there again, while a cluster
// is upgraded; then this does so too.
func (t *term) relocate(ctx context.Context) error {
	opCtx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	err := t.look(opCtx, t.lookInterval())
	cancel()
	if err != nil {
		return err
	}
	var errs []error
	for name, info := range t.shards.infos {
		if info.State.Consumers > 0 {
			errs = append(errs, t.relocateFrom(ctx, name))
		}
		errs = append(errs, t.removeSurplus(ctx, name))
	}
	return errors.Join(errs...)
}

// removeSurplus removes a stream that no shard has any more, once it has had
// neither messages nor consumers for as long as a model may be idle. A dispatcher
// with more shards, in the middle of an upgrade, may publish to it at that moment:
// the sweep finds what it published without a message, and that dispatcher makes
// its streams again if it comes to lead.
func (t *term) removeSurplus(ctx context.Context, name string) error {
	shard, _ := streams.ParseShard(name)
	if t.cfg.ModelIdle == 0 || slices.Contains(t.cfg.Streams.Shards.All(), shard) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	stream, err := t.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("binding stream %s: %w", name, err)
	}
	since, known := t.surplus[name]
	switch state := stream.CachedInfo().State; {
	case state.Msgs > 0 || state.Consumers > 0:
		delete(t.surplus, name)
	case !known:
		t.surplus[name] = time.Now()
	case time.Since(since) >= t.cfg.ModelIdle:
		if err := t.js.DeleteStream(ctx, name); err != nil {
			return fmt.Errorf("removing stream %s: %w", name, err)
		}
		delete(t.surplus, name)
		delete(t.shards.infos, name)
		t.cfg.Log.Info("a stream that no model is on any more was removed", "stream", name)
	}
	return nil
}

func (t *term) relocateFrom(ctx context.Context, name string) error {
	opCtx, cancel := context.WithTimeout(ctx, 2*brokerTimeout)
	defer cancel()
	shard, _ := streams.ParseShard(name)
	stream, err := t.js.Stream(opCtx, name)
	if err != nil {
		return fmt.Errorf("binding stream %s: %w", name, err)
	}
	var models []batch.Model
	list := stream.ListConsumers(opCtx)
	for info := range list.Info() {
		if m := streams.ConsumerModel(info.Config); m != "" && t.shard(m) != shard {
			models = append(models, m)
		}
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("listing consumers: %w", err)
	}
	var errs []error
	for _, model := range models {
		t.loop.Busy()
		if err := t.relocateModel(ctx, stream, shard, model); err != nil {
			errs = append(errs, fmt.Errorf("moving model %q from stream %s: %w", model, name, err))
		}
	}
	return errors.Join(errs...)
}

func (t *term) relocateModel(ctx context.Context, stream jetstream.Stream, shard streams.Shard, model batch.Model) error {
	ctx, cancel := context.WithTimeout(ctx, 4*brokerTimeout)
	defer cancel()
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(shard.ModelSubjects(model)))
	if err != nil {
		return err
	}
	released := 0
	var page []postgres.ClaimedRequest
	release := func() error {
		n, err := t.cfg.Store.ReleaseClaims(ctx, page, 0)
		released += n
		page = page[:0]
		return err
	}
	for subject := range info.State.Subjects {
		msg, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		_, id, parseErr := streams.ParseRequestSubject(subject)
		if err := errors.Join(err, parseErr); err != nil {
			return err
		}
		page = append(page, postgres.ClaimedRequest{ID: id, Claim: claimOf(msg)})
		if len(page) == relocatePage {
			if err := release(); err != nil {
				return err
			}
		}
	}
	if len(page) > 0 {
		if err := release(); err != nil {
			return err
		}
	}
	if err := stream.Purge(ctx, jetstream.WithPurgeSubject(shard.ModelSubjects(model))); err != nil {
		return err
	}
	if err := stream.DeleteConsumer(ctx, streams.ConsumerName(model)); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return err
	}
	t.cfg.Log.Info("a model has moved to another stream", "model", model, "from", shard.Stream(), "to", t.shard(model).Stream(),
		"messages", len(info.State.Subjects), "released", released)
	t.arrived(model)
	return nil
}
