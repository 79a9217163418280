package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

type published struct {
	request postgres.ClaimedRequest
	future  jetstream.PubAckFuture
	span    trace.Span // nil: it is not traced
	err     error
}

// publish puts a message on the stream for each claimed request, and goes on
// while their acks arrive; those that are refused are released.
//
// The claim is committed. A crash before the publish leaves requests without
// messages, found by the leader's sweep; a crash before the ack leaves
// messages that the sweep finds waiting.
func (l *lane) publish(ctx context.Context, claimed []postgres.ClaimedRequest, claim trace.SpanContext) error {
	if len(claimed) == 0 {
		return nil
	}
	failpoint.Hit(failpoint.Claimed)
	l.loop.Idle() // it waits for the broker's acks of earlier groups
	select {
	case l.groups <- struct{}{}:
	case <-ctx.Done():
		l.d.publishes.give(len(claimed))
		l.d.releaseClaims(ctx, claimed, 0)
		return ctx.Err()
	}
	group := make([]published, 0, len(claimed))
	for _, r := range claimed {
		l.loop.Busy()
		p := published{request: r}
		var msg *nats.Msg
		if msg, p.span, p.err = l.message(ctx, r, publishing{claim: claim}); p.err == nil {
			p.future, p.err = l.d.js.PublishMsgAsync(msg, jetstream.WithStallWait(stallWait))
		}
		group = append(group, p)
	}
	l.unconfirmed.Add(int64(len(group)))
	l.d.published.Store(time.Now().UnixNano())
	looked := l.looked
	l.publishing.Go(func() {
		l.confirm(ctx, group)
		l.refilled(time.Since(looked))
		l.unconfirmed.Add(-int64(len(group)))
		l.d.publishes.give(len(group))
		if l.awaiting.Swap(false) {
			l.wake.Notify() // the hint of what was drained came too early
		}
		<-l.groups
	})
	return nil
}

// refilled takes in how long it took to fill the window, or a part of it. Another
// group that does so at the same time may be left out.
func (l *lane) refilled(took time.Duration) {
	mean := time.Duration(l.refill.Load())
	l.refill.Store(int64(mean + (took-mean)/8))
}

// confirm waits for the acks. Each arrives or fails within publishTimeout.
func (l *lane) confirm(ctx context.Context, group []published) {
	failpoint.Hit(failpoint.Published)
	var refused refusals
	for _, p := range group {
		err := p.err
		if err == nil {
			select {
			case <-p.future.Ok():
				endPublish(p.span, nil)
				continue
			case err = <-p.future.Err():
			}
		}
		endPublish(p.span, err)
		refused.add(p.request, err)
	}
	taken := refused.taken
	refused.taken = nil
	for i, err := range l.replaceAll(ctx, taken) {
		if err != nil {
			refused.add(taken[i], err)
		}
	}
	refused.lost = append(refused.lost, refused.taken...) // taken again, by another
	if len(refused.unpublishable) > 0 && l.d.cfg.Daemon != (batch.DaemonID{}) {
		l.fail(ctx, refused.unpublishable, refused.contentErr)
	} else {
		refused.lost = append(refused.lost, refused.unpublishable...)
	}
	if len(refused.lost) == 0 {
		return
	}
	if ctx.Err() == nil {
		l.d.metrics.lostPublishes.Add(float64(len(refused.lost)))
		l.d.cfg.Log.Warn("requests could not be published and return to pending", "model", l.model, "requests", len(refused.lost), "err", refused.lostErr)
	}
	l.release(ctx, refused.lost)
}

// replacing is how many messages are replaced at once: each takes three round
// trips, and a consumer that died leaves hundreds.
const replacing = 16

// isOf reports whether a message of the stream is that of the claim.
func isOf(msg *jetstream.RawStreamMsg, claim int) bool { return claimOf(msg) == claim }

// claimOf is the claim number of a message; 0: it has none.
func claimOf(msg *jetstream.RawStreamMsg) int {
	n, err := strconv.Atoi(msg.Header.Get(streams.HeaderClaim))
	if err != nil {
		return 0
	}
	return n
}

// replaceAll replaces the messages of these requests and returns the error of
// each.
func (l *lane) replaceAll(ctx context.Context, requests []postgres.ClaimedRequest) []error {
	errs := make([]error, len(requests))
	var g errgroup.Group
	g.SetLimit(replacing)
	for i, r := range requests {
		g.Go(func() error {
			errs[i] = l.replace(ctx, r)
			return nil
		})
	}
	_ = g.Wait() // errs has them
	return errs
}

// replace deals with a message that holds the request's subject already. One
// of this claim is as good as the one that was refused. One of an earlier
// claim would be taken for stale by the consumer that receives it, so it makes way. One
// of a later claim is another dispatcher's, which took this one for dead.
func (l *lane) replace(ctx context.Context, r postgres.ClaimedRequest) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	subject := l.d.shard(l.model).RequestSubject(l.model, r.ID)
	old, err := l.d.stream(l.model).GetLastMsgForSubject(ctx, subject)
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("looking for the message of %s: %w", r.ID, err)
	}
	if err == nil {
		if claimOf(old) >= r.Claim {
			return nil
		}
		// It may just have been acked or removed by another, which the server tells
		// in several ways. If it is still there, the publish is refused.
		_ = l.d.stream(l.model).DeleteMsg(ctx, old.Sequence)
	}
	msg, span, err := l.message(ctx, r, publishing{again: true})
	if err != nil {
		return err
	}
	_, err = l.d.js.PublishMsg(ctx, msg)
	endPublish(span, err)
	if err != nil {
		return fmt.Errorf("publishing %s again: %w", r.ID, err)
	}
	return nil
}

// message builds what `nats stream view` shows: headers, and no body. The span of its
// publish is nil if there is none.
func (l *lane) message(ctx context.Context, r postgres.ClaimedRequest, in publishing) (msg *nats.Msg, span trace.Span, err error) {
	meta, err := l.d.metadata.get(ctx, r.ID.Batch)
	if err != nil {
		return nil, nil, err
	}
	msg = nats.NewMsg(l.d.shard(l.model).RequestSubject(l.model, r.ID))
	msg.Header = make(nats.Header, 6+len(meta.headers))
	for name, values := range meta.headers {
		msg.Header[name] = values
	}
	msg.Header[streams.HeaderRequestID] = []string{r.ID.String()}
	msg.Header[streams.HeaderModel] = []string{headerValue(string(l.model))}
	msg.Header[streams.HeaderClaim] = []string{strconv.Itoa(r.Claim)}
	msg.Header[streams.HeaderAttempt] = []string{strconv.Itoa(r.Attempt)}
	msg.Header[streams.HeaderDeadline] = meta.deadline
	if l.d.cfg.Tracer != nil {
		span = l.tracePublish(r, &meta, in, msg.Header)
	}
	return msg, span, nil
}
