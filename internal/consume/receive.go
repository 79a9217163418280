package consume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/backoff"
	"fusillade/internal/failpoint"
	"fusillade/streams"
)

const (
	// A pull that waits is renewed after its expiry, and noticed as lost pullGrace
	// later, or after two heartbeats. Short where work is frequent, since a
	// drain waits for it; and there without a heartbeat, which has no use then.
	busyExpiry                = time.Second
	idleExpiry, idleHeartbeat = 5 * time.Second, time.Second
	idleAfter                 = 10 * time.Second
	pullGrace                 = time.Second

	maxPrefetch = 1024 // messages; how long they last, lead says
	maxFetch    = 512
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

// pull asks for messages as there is room for them, until ctx ends.
func (p *pool) pull(ctx context.Context) {
	log := p.c.cfg.Log.With("model", p.account.Model())
	pause := backoff.New(50*time.Millisecond, 2*time.Second)
	stream := p.c.cfg.Shards.Of(p.account.Model()).Stream()
	lastMessage := time.Now()
	p.pulling = p.c.cfg.Watch.Loop("pulling requests of " + string(p.account.Model()))
	defer p.pulling.End()
	defer p.c.inbox.shut(p.account.Model(), p.tray)
	for {
		p.pulling.Idle()
		n, ok := p.awaitRoom(ctx)
		if !ok {
			return
		}
		p.pulling.Busy()
		got, err := p.fetch(ctx, stream, n, time.Since(lastMessage) > idleAfter)
		if got > 0 {
			lastMessage = time.Now()
		}
		if errors.Is(err, errNoConsumer) {
			if stream, err = p.find(ctx, stream); err == nil {
				err = errNoConsumer // there is one now, or soon
			}
		}
		switch {
		case err == nil:
			pause.Reset()
			continue
		case ctx.Err() == nil && !errors.Is(err, errNoHeartbeat) && !errors.Is(err, errNoConsumer):
			log.Warn("pulling requests", "err", err)
		}
		p.pulling.Idle()
		if pause.Wait(ctx) != nil {
			return
		}
	}
}

// find returns the stream that has a consumer of the model: its own, or while the
// number of shards changes and the dispatchers have another one, any.
func (p *pool) find(ctx context.Context, was string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	model := p.account.Model()
	own := p.c.cfg.Shards.Of(model)
	_, err := p.c.js.Consumer(ctx, own.Stream(), streams.ConsumerName(model))
	if err == nil {
		return own.Stream(), nil
	}
	for _, shard := range p.c.cfg.Shards.All() {
		if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			break
		}
		if shard != own {
			if _, err = p.c.js.Consumer(ctx, shard.Stream(), streams.ConsumerName(model)); err == nil {
				return shard.Stream(), nil
			}
		}
	}
	return was, err
}

var (
	errNoConsumer  = errors.New("the stream has no consumer for the model")
	errNoHeartbeat = errors.New("the server no longer answers the pull")
)

// fetch asks for n messages and hands on each as it comes, until they are all here
// or the pull has ended.
//
// A drain waits for the pull to expire, since what is on its way when the process
// ends is lost until its lease ends; unless the pool is idle and none is to be
// expected. Only a hard stop cuts it.
func (p *pool) fetch(ctx context.Context, stream string, n int, idle bool) (got int, err error) {
	ask, cut, silence := streams.Pull{Batch: n, Expires: busyExpiry}, p.c.doing, busyExpiry+pullGrace
	if idle {
		ask, cut, silence = streams.Pull{Batch: n, Expires: idleExpiry, Heartbeat: idleHeartbeat}, ctx, 2*idleHeartbeat
	}
	pull, reply := p.c.inbox.begin(p.tray)
	if err := p.c.cfg.Conn.PublishRequest(streams.PullSubject(stream, p.account.Model()), reply, ask.Encode()); err != nil {
		return 0, err
	}
	silent := time.NewTimer(silence)
	defer silent.Stop()
	for got < n {
		select {
		case <-cut.Done():
			return got, nil
		case <-silent.C:
			if idle {
				return got, errNoHeartbeat
			}
			return got, nil // the server has ended it
		case <-p.tray.arrived.C():
		}
		more, said := p.takeArrived(pull)
		got += more
		switch said.status {
		case "":
		case streams.StatusNone, streams.StatusExpired:
			return got, nil
		case streams.StatusNobody:
			return got, errNoConsumer
		case streams.StatusConflict:
			return got, conflict(said.why)
		}
		if idle {
			silent.Reset(silence)
		}
	}
	return got, nil
}

// conflict is why the server has ended a pull before its time.
func conflict(why string) error {
	if strings.EqualFold(why, "Consumer Deleted") {
		return errNoConsumer
	}
	return fmt.Errorf("the server ended a pull: %s", why)
}

// takeArrived hands on what has arrived, and tells the dispatchers.
func (p *pool) takeArrived(pull uint64) (got int, said news) {
	arrived, said := p.tray.take(pull)
	for _, a := range arrived {
		p.received(a)
	}
	if len(arrived) > 0 {
		p.c.report(p.c.cfg.Conn.Publish(streams.HintDrained(p.account.Model()), nil))
	}
	return len(arrived), said
}

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
		case <-p.tray.arrived.C(): // late, of a pull that was given up
			p.takeArrived(0)
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
	prefetch := min(int(p.rate.current*p.lead.prefetchTime().Seconds()+0.5), maxPrefetch)
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
func (p *pool) received(a arrival) {
	msg := a.msg
	t, err := newTask(p, a, time.Now())
	if err != nil {
		p.c.dropMalformed(msg, err)
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
		t.trace = p.c.traceReceived(t)
		failpoint.Hit(failpoint.Received)
		p.c.toStart(t)
	}
}
