package consume

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/failpoint"
	"fusillade/internal/slots"
	"fusillade/internal/telemetry"
	"fusillade/internal/watchdog"
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

// lane is one model in one consumer.
type lane struct {
	c       *Consumer
	account *slots.Account
	metrics *modelMetrics
	room    chan struct{} // there may be room for more messages
	pulling *watchdog.Loop

	mu       sync.Mutex
	starting int     // messages on their way through the start
	ready    []*task // started, waiting for a slot
	backlog  bool    // more waited in the stream when the last message came
	closed   bool
	rate     rate
}

// rate estimates calls per second over the last tenths of a second.
type rate struct {
	since   time.Time
	n       int
	current float64
}

const rateWindow = 100 * time.Millisecond

func (r *rate) add(now time.Time) {
	r.n++
	if d := now.Sub(r.since); d >= rateWindow {
		r.current = max(float64(r.n)/d.Seconds(), r.current/2)
		r.since, r.n = now, 0
	}
}

// pull fetches messages as there is room for them, until ctx ends.
func (l *lane) pull(ctx context.Context) {
	log := l.c.cfg.Log.With("model", l.account.Model())
	backoff := 50 * time.Millisecond
	var consumer jetstream.Consumer
	lastMessage := time.Now()
	l.pulling = l.c.cfg.Watch.Loop("pulling requests of " + string(l.account.Model()))
	defer l.pulling.End()
	for {
		l.pulling.Idle()
		n, ok := l.awaitRoom(ctx)
		if !ok {
			return
		}
		l.pulling.Busy()
		err := error(nil)
		if consumer == nil {
			consumer, err = l.bind(ctx)
		}
		if err == nil {
			idle := time.Since(lastMessage) > idleAfter
			var got int
			got, err = l.fetch(ctx, consumer, n, idle)
			if got > 0 {
				lastMessage = time.Now()
			}
		}
		if err == nil {
			backoff = 50 * time.Millisecond
			continue
		}
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
			errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNoHeartbeat) {
			consumer = nil
		}
		if ctx.Err() == nil && !errors.Is(err, jetstream.ErrNoHeartbeat) {
			log.Warn("pulling requests", "err", err)
		}
		l.pulling.Idle()
		select {
		case <-ctx.Done():
			return
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, 2*time.Second)
	}
}

func (l *lane) bind(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	return l.c.js.Consumer(ctx, streams.Stream, streams.ConsumerName(l.account.Model()))
}

// fetch asks for n messages and hands on each as it comes.
//
// Cutting a pull short may lose a message that is on its way until its lease
// ends. So a drain waits for the pull to expire, unless the lane is idle and
// none is to be expected; only a hard stop cuts it.
func (l *lane) fetch(ctx context.Context, consumer jetstream.Consumer, n int, idle bool) (got int, err error) {
	opts := []jetstream.FetchOpt{jetstream.FetchContext(pullContext{l.c.doing, time.Now().Add(busyExpiry)})}
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
		l.received(msg)
		if len(messages.Messages()) == 0 { // no more here yet: tell the dispatchers what was taken
			if err := l.c.cfg.Conn.Publish(streams.HintDrained(l.account.Model()), nil); err != nil {
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
func (l *lane) awaitRoom(ctx context.Context) (int, bool) {
	for {
		if ctx.Err() != nil {
			return 0, false
		}
		if n := l.roomFor(); n > 0 {
			return n, true
		}
		select {
		case <-ctx.Done():
		case <-l.room:
		case <-time.After(time.Second):
		}
	}
}

// roomFor is how many messages to fetch now: for the slots held and a little
// beyond, so that the next request is started when a slot frees, and no more,
// so that no message waits here that another consumer has a slot for.
func (l *lane) roomFor() int {
	standing := l.account.Standing()
	l.mu.Lock()
	defer l.mu.Unlock()
	if standing.Hold > 0 || standing.Paused {
		return 0
	}
	inHand := l.starting + len(l.ready) + standing.InUse
	pod := l.c.room()
	if standing.Allowed == 0 {
		// Nothing is held, and whether there is work shows only by asking.
		if standing.Free > 0 && inHand == 0 {
			return min(1, pod)
		}
		return 0
	}
	prefetch := min(int(l.rate.current*prefetchTime.Seconds()+0.5), maxPrefetch)
	room := standing.Allowed + prefetch - inHand
	if room <= 0 && standing.Free > 0 && l.starting+len(l.ready) == 0 {
		// Slots are free, and whether there is work for them shows only by asking:
		// while calls take long, nothing else here would.
		return min(1, pod)
	}
	if room < prefetch/2 {
		return 0 // enough is here; fetch more at a time
	}
	return min(room, maxFetch, pod)
}

func (l *lane) wake() {
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// received takes a message in hand and passes it to the start.
func (l *lane) received(msg jetstream.Msg) {
	t, err := newTask(l, msg, time.Now())
	if err != nil {
		l.c.metrics.dropped(telemetry.DroppedMessage, 1)
		l.c.cfg.Log.Error("message is malformed and was dropped", "subject", msg.Subject(), "err", err)
		l.c.report(msg.TermWithReason("malformed"))
		return
	}
	l.metrics.received(t)
	l.mu.Lock()
	closed := l.closed
	// What is redelivered is not counted as pending, and seldom comes alone: a
	// consumer died, or backoffs end.
	l.backlog = t.pending > 0 || t.delivery.Number > 1
	if !closed {
		l.starting++
	}
	l.mu.Unlock()
	switch {
	case closed:
		l.c.report(msg.Nak())
	case !l.c.hands.take(t):
		// Redelivered while the call goes on here: its lease had run out.
		l.unstarting()
		l.c.report(msg.NakWithDelay(busyDelay))
	default:
		failpoint.Hit(failpoint.Received)
		l.c.toStart(t)
	}
}

func (l *lane) unstarting() {
	l.mu.Lock()
	l.starting--
	l.mu.Unlock()
	l.wake()
}

// judged takes a task from the start: its call is to be made.
func (l *lane) judged(t *task) {
	l.mu.Lock()
	l.starting--
	closed := l.closed
	if !closed {
		l.ready = append(l.ready, t)
	}
	l.mu.Unlock()
	if closed {
		l.c.giveBack(t, 0)
		return
	}
	l.pump()
}

// pump begins the calls of ready tasks as slots are free.
func (l *lane) pump() {
	l.mu.Lock()
	var run []*task
	for t := l.next(); t != nil; t = l.next() {
		l.c.calls.Add(1) // under the lock: a drain waits for calls once the lane is closed
		run = append(run, t)
	}
	ready, backlog := len(l.ready), l.backlog
	l.mu.Unlock()
	l.account.Report(ready, backlog)
	for _, t := range run {
		go func() {
			defer l.c.calls.Done()
			l.work(t)
		}()
	}
	l.wake()
}

// next takes a ready task and a slot for it, if there are both. The caller
// holds the lock.
func (l *lane) next() *task {
	if len(l.ready) == 0 || l.closed || !l.c.acquire() {
		return nil
	}
	if !l.account.Acquire() {
		l.c.release()
		return nil
	}
	t := l.ready[0]
	l.ready[0] = nil
	l.ready = l.ready[1:]
	return t
}

// work makes a call, and those after it as long as there are some: a goroutine
// that goes on has its stack already.
func (l *lane) work(t *task) {
	for t != nil {
		f := l.c.call(t)
		t = l.called()
		l.c.finish(f)
	}
}

// called frees the slot of a call that has ended, and takes the next task if
// one is ready.
func (l *lane) called() *task {
	l.account.Release()
	l.mu.Lock()
	l.rate.add(time.Now())
	wanted := l.c.release()
	var t *task
	if !wanted {
		t = l.next()
	}
	ready, backlog := len(l.ready), l.backlog
	l.mu.Unlock()
	l.account.Report(ready, backlog)
	if wanted {
		l.c.pumpAll() // other models waited for this consumer's capacity
	}
	l.wake()
	return t
}

// shed gives back the tasks that wait here in vain: this daemon is due no
// slot of the model and others have them, the upstream asked for a pause, or
// an operator did.
func (l *lane) shed() {
	s := l.account.Standing()
	switch {
	case s.Paused:
		l.giveBackReady(0) // to wait in the stream, without a lease
	case s.Hold > time.Second:
		l.giveBackReady(s.Hold)
	case s.Hold == 0 && s.Allowed == 0 && s.Want > 0 && s.Share == 0:
		l.giveBackReady(0)
	}
}

// close refuses messages from now on and gives back those without a call.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.giveBackReady(0)
}

func (l *lane) giveBackReady(delay time.Duration) {
	l.mu.Lock()
	tasks := l.ready
	l.ready = nil
	l.c.calls.Add(len(tasks)) // so that a drain waits for these too
	l.mu.Unlock()
	for _, t := range tasks {
		l.c.giveBack(t, delay)
		l.c.calls.Done()
	}
	if len(tasks) > 0 {
		l.account.Report(0, false)
	}
}
