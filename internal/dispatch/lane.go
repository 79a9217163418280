package dispatch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
	"fusillade/internal/watchdog"
	"fusillade/streams"
)

const (
	// cursorsAge is how long a list of cursors is used without a hint that it
	// changed. The claim itself checks each again.
	cursorsAge = time.Second
	// contendedPause is how long to leave a cursor to the dispatcher that is
	// claiming from it.
	contendedPause = 3 * time.Millisecond
	// minPause and maxPause are between tries after errors.
	minPause, maxPause = 100 * time.Millisecond, 2 * time.Second
	// unconfirmedGroups bounds the publishes of a lane that run behind its claims.
	unconfirmedGroups = 4
)

// lane keeps one model's window filled.
type lane struct {
	d     *Dispatcher
	model batch.Model
	wake  notify.Signal // poked after one of the flags was set

	// Set by any goroutine, and reset by run.
	stale     atomic.Bool // the cursors may have changed, or requests may be due
	refused   atomic.Bool // requests could not be published and are due after republishPause
	misrouted atomic.Bool // requests that wait for a claim may belong to another model
	ensured   atomic.Bool // the model has a stream consumer; read by the leader
	lost      atomic.Bool // the stream consumer was removed
	starved   atomic.Bool // nothing was listed when it last looked
	times     callTimes   // of the owners' calls

	// Owned by run.
	loop           *watchdog.Loop
	consumer       jetstream.Consumer // nil: to be created, or looked up
	applied        int                // the highest limit that the stream consumer was created for
	automatic      automatic          // the limit, if it is found while it runs
	window         window
	looked         time.Time // when it last found room
	scheduler      scheduler
	listed         int           // cursors on the last list
	read           time.Time     // when the cursors were read
	readTime       time.Duration // how long that took
	next           string        // the owner with whom the next reading begins
	owner          string        // who came next when it last claimed; empty: it has claimed nothing yet
	weight         float64       // of that owner
	nextDue        batch.ID      // the batch after which the next reading of what is due begins
	nextEscalation time.Time     // when the next batch comes here by escalation; zero: none is known

	// Shared by run and the goroutines that confirm its publishes.
	groups      chan struct{} // a place per group being published
	unconfirmed atomic.Int64  // messages in those groups
	// awaiting: the window looked full, and may not have been, for messages of
	// which the stream knew and their confirmation was not read
	awaiting   atomic.Bool
	refill     atomic.Int64   // mean time from a look to the confirmation of what it found room for, in nanoseconds
	publishing sync.WaitGroup // the groups
}

func newLane(d *Dispatcher, model batch.Model) *lane {
	l := &lane{d: d, model: model, weight: 1, wake: notify.New(), groups: make(chan struct{}, unconfirmedGroups)}
	l.misrouted.Store(true)
	l.scheduler.times = &l.times
	return l
}

// run fills the window whenever it is woken. Without a wake it looks again
// after the claim interval, as long as there is something to claim.
func (l *lane) run(ctx context.Context) {
	defer l.publishing.Wait()
	worked := time.Now() // when it last had something to do
	log := l.d.cfg.Log.With("model", l.model)
	failed := backoff.New(minPause, maxPause)
	var again time.Time // when refused requests are due; zero: there are none
	l.loop = l.d.cfg.Watch.Loop("dispatching requests of " + string(l.model))
	defer l.loop.End()
	for {
		l.loop.Busy()
		wait := backoff.Jitter(l.d.pollInterval())
		if l.refused.Swap(false) {
			again = time.Now().Add(republishPause + backoff.Jitter(republishPause/4))
		}
		if !again.IsZero() {
			if left := time.Until(again); left > 0 {
				wait = min(wait, left)
			} else {
				again = time.Time{}
				l.stale.Store(true)
			}
		}
		err := l.fill(ctx)
		l.starved.Store(l.scheduler.empty())
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errContended):
			wait = backoff.Jitter(contendedPause)
		case err != nil:
			log.Warn("requests could not be dispatched", "err", err)
			if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
				l.consumer = nil
				l.d.lost.Notify()
			}
			wait = failed.Next()
		default:
			failed.Reset()
			if !l.scheduler.empty() || l.d.decided().paused(l.model) || l.unconfirmed.Load() > 0 {
				worked = time.Now()
			} else {
				if l.d.retireLane(l, worked) {
					return
				}
				if again.IsZero() { // else it looks again soon
					wait = l.d.idleWait(worked)
				}
			}
			if l.stale.Load() && l.scheduler.empty() {
				wait = 0 // since it looked, when it was not starved and so was not woken
			}
			if !l.nextEscalation.IsZero() {
				wait = min(wait, max(time.Until(l.nextEscalation), time.Millisecond))
			}
		}
		l.loop.Idle()
		select {
		case <-ctx.Done():
			return
		case <-l.wake.C():
		case <-time.After(wait):
		}
	}
}

var errContended = errors.New("another dispatcher is claiming")

// fill claims and publishes until the window is full or nothing is left. What is
// listed is read again only when there is room for it: with a thousand lanes whose
// windows are full, each change would have each of them read.
func (l *lane) fill(ctx context.Context) error {
	for ctx.Err() == nil {
		room, known := 0, !l.scheduler.empty() && !l.reroutes()
		var err error
		if known {
			if room, err = l.roomFor(ctx, nil); err != nil || room <= 0 {
				return err
			}
		}
		told, err := l.refreshBeside(ctx, known)
		if err != nil {
			return err
		}
		if l.scheduler.empty() {
			l.awaiting.Store(false)
			return nil
		}
		if !known {
			if room, err = l.roomFor(ctx, told); err != nil || room <= 0 {
				return err
			}
		}
		for room > 0 && !l.scheduler.empty() && !l.d.decided().paused(l.model) {
			n, err := l.claimInTurn(ctx, min(room, l.d.cfg.ClaimBatchSize))
			if err != nil {
				return err
			}
			room -= n
		}
	}
	return nil
}

// refreshBeside reads what waits, if that may have changed, and at the same time asks
// the stream how full the window is, unless that is known: an idle lane has one to
// wait for, and not both, when there is work.
func (l *lane) refreshBeside(ctx context.Context, known bool) (told *depthTold, err error) {
	if known || l.consumer == nil || !l.stale.Load() {
		return nil, l.refresh(ctx)
	}
	asked := make(chan depthTold, 1)
	go func(consumer jetstream.Consumer) { asked <- l.askDepth(ctx, consumer) }(l.consumer)
	err = l.refresh(ctx)
	answer := <-asked
	return &answer, err
}

// depthTold is what the stream has told of a model's consumer.
type depthTold struct {
	info        *jetstream.ConsumerInfo
	unconfirmed int // messages of this lane, when it was asked
	asked       time.Time
	err         error
}

// askDepth asks the stream how full the window is. Published and not confirmed messages
// may be counted by the stream as well; counting them twice only makes the window a
// little smaller. They are read before the stream is, so that none is missed.
func (l *lane) askDepth(ctx context.Context, consumer jetstream.Consumer) (told depthTold) {
	l.awaiting.Store(true)
	told.unconfirmed, told.asked = int(l.unconfirmed.Load()), time.Now()
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	if told.info, told.err = consumer.Info(ctx); told.err != nil {
		told.err = fmt.Errorf("reading the window: %w", told.err)
	}
	return told
}

// roomFor is how many messages the window has room for, by what the stream has told of
// it; nil: it is asked.
func (l *lane) roomFor(ctx context.Context, told *depthTold) (int, error) {
	set, before := l.d.decided().limit(l.model), l.consumer
	if err := l.ensureConsumer(ctx, set.Most()); err != nil {
		return 0, err
	}
	limit := l.limitNow(ctx, set)
	switch {
	case l.consumer != before && l.unconfirmed.Load() == 0: // it was told with the creation
		told = &depthTold{info: l.consumer.CachedInfo(), asked: time.Now()}
	case l.consumer != before, told == nil:
		answer := l.askDepth(ctx, l.consumer)
		told = &answer
	}
	if told.err != nil {
		return 0, told.err
	}
	info, unconfirmed := told.info, told.unconfirmed
	l.window.callTime, l.window.refill = l.scheduler.callTime(), time.Duration(l.refill.Load())
	l.scheduler.inUse = time.Duration(min(limit, info.NumAckPending)) * l.times.meanOfAll()
	room := l.window.room(depth{
		pending: int(info.NumPending) + unconfirmed, unacked: info.NumAckPending, delivered: info.Delivered.Consumer,
	}, limit, streams.MaxAckPending(set.Most()), l.d.decided().rate(l.model), time.Now())
	if room > 0 {
		l.looked = told.asked
	}
	if room > 0 || unconfirmed == 0 {
		l.awaiting.Store(false)
	}
	return room, nil
}

// ensureConsumer creates what the model needs, in the order in which it is
// needed: consumers look for a model's stream consumer once its slots exist.
func (l *lane) ensureConsumer(ctx context.Context, limit int) error {
	if l.lost.Swap(false) {
		l.consumer = nil
		l.ensured.Store(false)
	}
	if l.consumer != nil && l.applied == limit {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	consumer, err := streams.EnsureConsumer(ctx, l.d.stream(l.model), l.d.shard(l.model).ConsumerConfig(l.model, limit, l.d.cfg.Lease))
	if err != nil {
		return fmt.Errorf("creating consumer: %w", err)
	}
	if err := l.d.ensureModel(ctx, l.model); err != nil {
		return err
	}
	l.consumer, l.applied = consumer, limit
	l.ensured.Store(true)
	return nil
}

// claimInTurn claims when it is the turn of the owner who comes next here.
func (l *lane) claimInTurn(ctx context.Context, n int) (int, error) {
	next := l.scheduler.owners[0]
	l.owner, l.weight = next.name, next.weight
	l.loop.Idle() // for others' claims and publishes, all of which end
	err := l.d.publishes.take(ctx, next.name, next.weight, n)
	l.loop.Busy()
	if err != nil {
		return 0, err
	}
	claimed, err := l.claim(ctx, n)
	l.d.publishes.give(n - claimed) // the others when their publishes are confirmed
	return claimed, err
}

// inTurn does something with the database when it is the lane's turn.
func (l *lane) inTurn(ctx context.Context, do func() error) error {
	l.loop.Idle()
	err := l.d.queries.take(ctx, l.owner, l.weight, 1)
	l.loop.Busy()
	if err != nil {
		return err
	}
	defer l.d.queries.give(1)
	return do()
}

// claim takes up to n requests, in the order of the scheduler, and begins to
// publish them.
func (l *lane) claim(ctx context.Context, n int) (int, error) {
	quotas, asked := l.scheduler.take(n)
	if asked == 0 {
		return 0, nil
	}
	if l.scheduler.empty() || l.scheduler.short {
		l.stale.Store(true) // there may be more than was listed
	}
	var due, fresh []postgres.Quota
	for _, q := range quotas {
		if q.Kind == postgres.Fresh {
			fresh = append(fresh, q)
		} else {
			due = append(due, q)
		}
	}
	total := 0
	for _, part := range []struct {
		quotas []postgres.Quota
		claim  func(context.Context, []postgres.Quota) ([]postgres.ClaimedRequest, error)
	}{
		{due, func(ctx context.Context, due []postgres.Quota) ([]postgres.ClaimedRequest, error) {
			return l.d.cfg.Store.ClaimDue(ctx, l.model, due, l.d.decided().escalations)
		}},
		{fresh, func(ctx context.Context, fresh []postgres.Quota) ([]postgres.ClaimedRequest, error) {
			return l.d.cfg.Store.Claim(ctx, l.model, fresh)
		}},
	} {
		if len(part.quotas) == 0 {
			continue
		}
		var began time.Time
		// A claim that was committed and whose answer is lost would leave claimed
		// requests without messages, so a stop does not interrupt it.
		var claimed []postgres.ClaimedRequest
		err := l.inTurn(ctx, func() (err error) {
			began = time.Now()
			wait := l.d.metadata.prepare(ctx, part.quotas)
			defer wait()
			claimed, err = part.claim(context.WithoutCancel(ctx), part.quotas)
			return err
		})
		if err != nil {
			l.stale.Store(true) // the scheduler takes them for claimed
			return total, err
		}
		total += len(claimed)
		l.d.metrics.claimed(began, len(claimed))
		l.d.metrics.routed(l.model, claimed)
		if err := l.publish(ctx, claimed, l.traceClaim(began, claimed)); err != nil {
			return total, err
		}
	}
	if total < asked {
		l.stale.Store(true)
		return total, errContended
	}
	return total, nil
}
