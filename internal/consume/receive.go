package consume

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/backoff"
	"fusillade/internal/failpoint"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

const (
	// A pull that waits is renewed after its expiry, and noticed as lost a second
	// later, or after two heartbeats. Short where work is frequent, since a
	// drain waits for it; and there without a heartbeat, since on a busy machine
	// one that is missed would cut a pull that is served.
	busyExpiry                = time.Second
	idleExpiry, idleHeartbeat = 5 * time.Second, time.Second
	idleAfter                 = 10 * time.Second

	// prefetchTime is how much work is fetched ahead, in time: about the way
	// from the broker through the start to the call.
	prefetchTime = 100 * time.Millisecond
	maxPrefetch  = 1024
	maxFetch     = 512
)

// pace estimates calls per second over the last tenths of a second.
type pace struct {
	since   time.Time
	n       int
	current float64
}

const rateWindow = 100 * time.Millisecond

func (r *pace) add(now time.Time) {
	r.n++
	if d := now.Sub(r.since); d >= rateWindow {
		r.current = max(float64(r.n)/d.Seconds(), r.current/2)
		r.since, r.n = now, 0
	}
}

// pull fetches messages as there is room for them, until ctx ends.
func (p *pool) pull(ctx context.Context) {
	log := p.c.cfg.Log.With("model", p.account.Model())
	pause := backoff.New(50*time.Millisecond, 2*time.Second)
	var consumer jetstream.Consumer
	lastMessage := time.Now()
	p.pulling = p.c.cfg.Watch.Loop("pulling requests of " + string(p.account.Model()))
	defer p.pulling.End()
	for {
		p.pulling.Idle()
		n, ok := p.awaitRoom(ctx)
		if !ok {
			return
		}
		p.pulling.Busy()
		err := error(nil)
		if consumer == nil {
			consumer, err = p.bind(ctx)
		}
		if err == nil {
			idle := time.Since(lastMessage) > idleAfter
			var got int
			got, err = p.fetch(ctx, consumer, n, idle)
			if got > 0 {
				lastMessage = time.Now()
			}
		}
		if err == nil {
			pause.Reset()
			continue
		}
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
			errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNoHeartbeat) {
			consumer = nil
		}
		if ctx.Err() == nil && !errors.Is(err, jetstream.ErrNoHeartbeat) {
			log.Warn("pulling requests", "err", err)
		}
		p.pulling.Idle()
		if pause.Wait(ctx) != nil {
			return
		}
	}
}

func (p *pool) bind(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	own := p.c.cfg.Shards.Of(p.account.Model())
	consumer, err := p.c.js.Consumer(ctx, own.Stream(), streams.ConsumerName(p.account.Model()))
	// While the number of shards changes, the dispatchers may have another one.
	for _, shard := range p.c.cfg.Shards.All() {
		if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			break
		}
		if shard != own {
			consumer, err = p.c.js.Consumer(ctx, shard.Stream(), streams.ConsumerName(p.account.Model()))
		}
	}
	return consumer, err
}

// fetch asks for n messages and hands on each as it comes.
//
// Cutting a pull short may lose a message that is on its way until its lease
// ends. So a drain waits for the pull to expire, unless the pool is idle and
// none is to be expected; only a hard stop cuts it.
func (p *pool) fetch(ctx context.Context, consumer jetstream.Consumer, n int, idle bool) (got int, err error) {
	opts := []jetstream.FetchOpt{jetstream.FetchContext(pullContext{p.c.doing, time.Now().Add(busyExpiry)})}
	if idle {
		opts = []jetstream.FetchOpt{
			jetstream.FetchContext(pullContext{ctx, time.Now().Add(idleExpiry)}), jetstream.FetchHeartbeat(idleHeartbeat),
		}
	}
	messages, err := consumer.Fetch(n, opts...)
	if err != nil {
		return 0, err
	}
	for msg := range messages.Messages() {
		got++
		p.received(msg)
		if len(messages.Messages()) == 0 { // no more here yet: tell the dispatchers what was taken
			if err := p.c.cfg.Conn.Publish(streams.HintDrained(p.account.Model()), nil); err != nil {
				return got, err
			}
		}
	}
	if err := messages.Error(); err != nil && ctx.Err() == nil {
		return got, err
	}
	return got, nil
}

// pullContext tells Fetch when the server is to end the pull, and does not end
// then itself. Fetch goes on for a second after the server should have ended
// it; a context that ends with its deadline would cut it a tenth of its time
// after the server, and on a busy machine a message is on its way for longer.
type pullContext struct {
	context.Context
	expires time.Time
}

// Deadline implements context.Context.
func (c pullContext) Deadline() (time.Time, bool) { return c.expires, true }

// awaitRoom waits until some messages should be fetched and says how many.
// False means that ctx has ended.
func (p *pool) awaitRoom(ctx context.Context) (int, bool) {
	for {
		if ctx.Err() != nil {
			return 0, false
		}
		if n := p.roomFor(); n > 0 {
			return n, true
		}
		select {
		case <-ctx.Done():
		case <-p.room.C():
		case <-time.After(time.Second):
		}
	}
}

// roomFor is how many messages to fetch now: for the slots held and a little
// beyond, so that the next request is started when a slot frees, and no more,
// so that no message waits here that another consumer has a slot for.
func (p *pool) roomFor() int {
	standing := p.account.Standing()
	if standing.Paused || p.c.holds.Rests(p.account.Model()) {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	here := p.starting + len(p.ready) + standing.InUse
	capacity := p.c.room()
	if standing.Allowed == 0 {
		// Nothing is held, and whether there is work shows only by asking.
		if standing.Free > 0 && here == 0 {
			return min(1, capacity)
		}
		return 0
	}
	prefetch := min(int(p.rate.current*prefetchTime.Seconds()+0.5), maxPrefetch)
	room := standing.Allowed + prefetch - here
	if room <= 0 && standing.Free > 0 && p.starting+len(p.ready) == 0 {
		// Slots are free, and whether there is work for them shows only by asking:
		// while calls take long, nothing else here would.
		return min(1, capacity)
	}
	if depth, limited := p.rateDepth(); limited {
		// What waits for a rate here waits for it nowhere else.
		return min(room, depth-p.starting-len(p.ready), maxFetch, capacity)
	}
	if room < prefetch/2 {
		return 0 // enough is here; fetch more at a time
	}
	return min(room, maxFetch, capacity)
}

// received registers a message and passes it to the start.
func (p *pool) received(msg jetstream.Msg) {
	t, err := newTask(p, msg, time.Now())
	if err != nil {
		p.c.metrics.dropped(telemetry.DroppedMessage, 1)
		p.c.cfg.Log.Error("message is malformed and was dropped", "subject", msg.Subject(), "err", err)
		p.c.report(msg.TermWithReason("malformed"))
		return
	}
	p.metrics.received(t)
	p.mu.Lock()
	closed := p.closed
	// What is redelivered is not counted as pending, and seldom comes alone: a
	// consumer died, or backoffs end.
	p.moreQueued = t.pending > 0 || t.delivery.Number > 1
	if !closed {
		p.starting++
	}
	p.mu.Unlock()
	switch {
	case closed:
		p.c.report(msg.Nak())
	case !p.c.inflight.add(t):
		// Redelivered while the call goes on here: its lease had run out.
		p.leftStart()
		p.c.report(msg.NakWithDelay(busyDelay))
	default:
		failpoint.Hit(failpoint.Received)
		p.c.toStart(t)
	}
}
