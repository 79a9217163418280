package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	// republishPause is how long a request waits that could not be published; it
	// doubles with each claim, up to maxRepublishPause.
	republishPause    = time.Second
	maxRepublishPause = time.Minute
)

// Error codes of publishes that the broker refuses.
const (
	// streamStoreFailed: the stream's limits refuse it; here that is always its
	// one message per subject.
	streamStoreFailed jetstream.ErrorCode = 10077
	// headersTooLarge and messageTooLarge: it is larger than the broker takes.
	headersTooLarge jetstream.ErrorCode = 10097
	messageTooLarge jetstream.ErrorCode = 10054
)

func refusedAs(err error, codes ...jetstream.ErrorCode) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && slices.Contains(codes, api.ErrorCode)
}

// subjectTaken reports whether a publish was refused because the request has a
// message already.
func subjectTaken(err error) bool { return refusedAs(err, streamStoreFailed) }

// unpublishable reports whether a publish was refused for what the message holds,
// so that it would be refused for ever.
func unpublishable(err error) bool {
	return refusedAs(err, headersTooLarge, messageTooLarge) ||
		errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrBadSubject)
}

// release returns requests that could not be published to pending. Each is due
// after a pause that grows with its claims, so that one that is refused again
// and again costs little.
func (l *lane) release(ctx context.Context, requests []postgres.ClaimedRequest) {
	byPause := make(map[time.Duration][]postgres.ClaimedRequest)
	for _, r := range requests {
		pause := min(republishPause<<min(max(r.Claim-1, 0), 10), maxRepublishPause)
		byPause[pause] = append(byPause[pause], r)
	}
	for pause, some := range byPause {
		l.d.releaseClaims(ctx, some, pause)
	}
	l.refused.Store(true)
	l.wake.Notify()
}

// fail finishes requests that the broker refuses for what their messages hold.
// They are started, by this dispatcher's daemon, and finished at once: the fences
// of both say whether they are still this claim's.
//
// A crash before the start leaves a claim without a message, which the sweep
// releases, and the publish is refused again. One between the two leaves a
// request that a dead daemon was processing; the reaper releases it. So does an
// error, at the latest when the daemon ends.
func (l *lane) fail(ctx context.Context, requests []postgres.ClaimedRequest, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	log := l.d.cfg.Log.With("model", l.model, "requests", len(requests), "cause", cause)
	deliveries := make([]postgres.Delivery, len(requests))
	for i, r := range requests {
		deliveries[i] = postgres.Delivery{ID: r.ID, Claim: r.Claim, Number: 1}
	}
	started, err := l.d.cfg.Store.Start(ctx, postgres.StartRules{
		Daemon: l.d.cfg.Daemon, ProcessingTimeout: l.d.cfg.ProcessingTimeout, StaleThreshold: l.d.cfg.StaleThreshold,
	}, deliveries)
	var completions []postgres.Completion
	for i, s := range started {
		if s.Verdict == postgres.Started || s.Verdict == postgres.Deferred {
			completions = append(completions, postgres.Completion{
				Delivery: deliveries[i], State: batch.Failed, Reason: batch.BuilderError, Attempts: requests[i].Attempt,
				Detail: "the broker refuses its message: " + refusal(cause),
			})
		}
	}
	if err == nil && len(completions) > 0 {
		_, err = l.d.cfg.Store.Finish(ctx, l.d.cfg.Daemon, completions, nil)
	}
	if err != nil {
		log.Warn("requests that the broker refuses could not be failed; they are published again", "err", err)
		l.release(ctx, requests)
		return
	}
	log.Error("the broker refuses requests for what their messages hold; they failed")
}

// refusal says in words of ours what the broker refuses.
func refusal(err error) string {
	switch {
	case refusedAs(err, headersTooLarge):
		return "its headers are too large"
	case errors.Is(err, nats.ErrBadSubject):
		return "its model makes no valid subject"
	}
	return "it is too large"
}

// refusals sorts the publishes of a group that failed by what is to be done.
type refusals struct {
	lost, taken, unpublishable []postgres.ClaimedRequest
	lostErr, contentErr        error // the first of each
}

func (r *refusals) add(request postgres.ClaimedRequest, err error) {
	switch {
	case subjectTaken(err):
		r.taken = append(r.taken, request)
	case unpublishable(err):
		r.unpublishable, r.contentErr = append(r.unpublishable, request), cmp.Or(r.contentErr, err)
	default:
		r.lost, r.lostErr = append(r.lost, request), cmp.Or(r.lostErr, err)
	}
}
