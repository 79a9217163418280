package consume

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/notify"
	"fusillade/internal/rate"
	"fusillade/internal/slots"
	"fusillade/internal/tally"
	"fusillade/internal/telemetry"
)

const (
	brokerTimeout = 5 * time.Second
	// busyDelay is how long a message waits whose request another daemon works
	// on, before it is offered again.
	busyDelay = 500 * time.Millisecond
	// busyMargin is added when its daemon's heartbeat goes stale before that.
	busyMargin = 10 * time.Millisecond

	startBatch, finishBatch = 256, 512
	// A call whose result waits to be written is made again after a crash, so
	// results linger for less than starts.
	startLinger, finishLinger = 20 * time.Millisecond, 15 * time.Millisecond
	flushWorkers              = 2
	// flushBytes is how much one flush carries in bodies, and one body more:
	// Postgres refuses a statement of about 1 GB, however often it is tried.
	flushBytes = 32 << 20
	// maxBodies is how many bytes of requests' bodies are kept in memory, and
	// what two flushes carry more.
	maxBodies = 1 << 30
	// maxResults is how many bytes of results may wait to be stored. Beyond it no
	// call begins.
	maxResults     = 256 << 20
	defaultMaxHold = 10 * time.Minute
	// defaultMaxStreamBackoff is far above the time of a claim.
	defaultMaxStreamBackoff = 5 * time.Second
	// unwritten is how many messages may be in flight beyond the calls: fetched
	// ahead, or with a result that waits for Postgres.
	unwritten = 2048
	// writeGrace is how long results may take to be written once calls have
	// ended or been cut off.
	writeGrace = 10 * time.Second
)

// Consumer runs the calls of one daemon.
type Consumer struct {
	// Set by New, then read only.
	cfg        Config
	js         jetstream.JetStream
	keeper     *slots.Keeper
	holds      *hold.Registry
	rates      *rate.Keeper
	inbox      *inbox
	metrics    *metrics
	starts     *batcher[*task]
	finishes   *batcher[decision]
	flushBytes int // of bodies, that a start returns at most, and one body more

	// Set by Run before anything else runs.
	taking  context.Context // ends when no more work is to be taken
	doing   context.Context // ends when calls must stop
	writing context.Context // ends when writes must stop

	// Safe for concurrent use by themselves.
	inflight  inflight
	capacity  capacity
	places    *places
	look      notify.Signal  // to watchCancels: requests in flight may have been canceled
	called    notify.Signal  // to hintCallTimes: calls have begun
	pulls     sync.WaitGroup // a pull loop per pool; added to under mu, by openPool
	calls     sync.WaitGroup // calls, and releases of ready tasks; added to under a pool's mu
	unstored  unstored
	starting  incident // of flushes of starts
	finishing incident // of flushes of results
	lastError atomic.Pointer[LastError]
	refusals  refusals
	answers   answers
	often     *tally.Log // of what may happen to many requests

	// Counted where it is done, and read by Stats and the status log.
	completed, failed, retried, fenced, aborted atomic.Int64
	callTime                                    atomic.Int64 // nanoseconds

	mu     sync.Mutex
	pools  []*pool
	closed bool // no pool is opened any more
}

// New returns a consumer. Its daemon must have its heartbeats running.
func New(ctx context.Context, cfg Config) (*Consumer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("connecting to JetStream: %w", err)
	}
	cfg.CancelPoll = cmp.Or(cfg.CancelPoll, defaultCancelPoll)
	cfg.MaxHold = cmp.Or(cfg.MaxHold, defaultMaxHold)
	cfg.MaxStreamBackoff = cmp.Or(cfg.MaxStreamBackoff, defaultMaxStreamBackoff)
	c := &Consumer{
		cfg: cfg, js: js, metrics: newMetrics(cfg.Metrics), flushBytes: flushBytes, look: notify.New(), called: notify.New(),
		inflight: newInflight(),
		capacity: capacity{places: int64(cfg.MaxInFlight), maxResults: maxResults}, places: newPlaces(), unstored: unstored{added: notify.New()},
		starting:  incident{what: "starting requests", log: cfg.Log},
		finishing: incident{what: "writing results", log: cfg.Log},
		often:     tally.New(cfg.Log, 0),
	}
	c.cfg.Store = measuredStore{cfg.Store, c.metrics}
	c.starts = newBatcher(startBatch, flushWorkers, startLinger, c.flushStarts)
	c.finishes = newBatcher(finishBatch, flushWorkers, finishLinger, c.flushFinishes)
	c.finishes.weigh, c.finishes.maxBytes = func(d decision) int { return d.bytes() }, flushBytes
	c.holds, err = hold.New(ctx, hold.Config{
		Conn: cfg.Conn, Max: cfg.MaxHold, After: cfg.HoldAfter, Probe: cfg.Probe, MaxProbe: cfg.MaxProbe, Changed: c.dispatchAll, Ramp: true, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	c.rates, err = rate.NewKeeper(ctx, rate.Config{
		Conn: cfg.Conn, Daemon: cfg.Daemon, Demand: c.rateDemand, Changed: c.rateChanged, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	c.keeper, err = slots.NewKeeper(ctx, slots.Config{
		Conn: cfg.Conn, Daemon: cfg.Daemon, Capacity: cfg.MaxInFlight,
		HeartbeatInterval: cfg.HeartbeatInterval, Dead: c.deadDaemons, OnModel: c.openPool, Metrics: cfg.Metrics, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Consumer) deadDaemons(ctx context.Context, ids []batch.DaemonID) (map[batch.DaemonID]bool, error) {
	return c.cfg.Store.DeadDaemons(ctx, ids, c.cfg.StaleThreshold)
}

// Stats are counted since the start.
type Stats struct {
	Completed, Failed, Retried, Fenced int64
	// Aborted were in flight when they were canceled or had otherwise finished
	// elsewhere: their calls were cut off or not made.
	Aborted  int64
	InFlight int
	CallTime time.Duration // of all calls together
	// LastError is what last went wrong; nil if nothing did.
	LastError *LastError
	// Refusals are of models of which every call was refused lately, that for the
	// longest time first.
	Refusals []Refusal
}

// LastError is something that keeps requests from completing.
type LastError struct {
	At     time.Time
	Model  batch.Model // whose call failed; empty: a write did
	Detail string      // safe to show
	Err    error       // of a write
}

// Stats returns the current numbers.
func (c *Consumer) Stats() Stats {
	return Stats{
		Completed: c.completed.Load(), Failed: c.failed.Load(), Retried: c.retried.Load(), Fenced: c.fenced.Load(),
		Aborted:  c.aborted.Load(),
		InFlight: int(c.capacity.used.Load()), CallTime: time.Duration(c.callTime.Load()), LastError: c.lastError.Load(), Refusals: c.refusals.list(),
	}
}

// Run consumes until taking ends. It then takes no more work, releases what it
// has not begun to call, lets calls in flight end within DrainTimeout or until
// doing ends, stores their results, and returns. It can be called once.
func (c *Consumer) Run(taking, doing context.Context) error {
	doing, stopDoing := context.WithCancel(doing)
	defer stopDoing()
	// Results are still stored after doing has ended.
	writing, stopWriting := context.WithCancel(context.WithoutCancel(doing))
	defer stopWriting()
	c.taking, c.doing, c.writing = taking, doing, writing
	inbox, err := openInbox(c)
	if err != nil {
		return err
	}
	defer inbox.close()
	c.inbox = inbox
	defer telemetry.Attach(c.cfg.Metrics, standings{c})()
	defer telemetry.Attach(c.cfg.Metrics, rateStandings{c})()
	// Leases and slots are kept to the end.
	kept, stopKeeping := context.WithCancel(context.WithoutCancel(doing))
	defer stopKeeping()

	var starts, finishes, unstored sync.WaitGroup
	starts.Go(c.starts.run)
	finishes.Go(c.finishes.run)
	unstored.Go(c.writeUnstored)
	background, keeping := errgroup.WithContext(kept)
	background.Go(func() error { return c.keeper.Run(keeping) })
	background.Go(func() error { c.holds.Run(keeping); return nil })
	background.Go(func() error { c.rates.Run(keeping); return nil })
	background.Go(func() error { return c.renewLeases(keeping) })
	background.Go(func() error { return c.renewStarts(keeping) })
	background.Go(func() error { return c.logStatus(keeping) })
	background.Go(func() error { c.often.Run(keeping); return nil })
	background.Go(func() error { return c.hintCallTimes(keeping) })
	background.Go(func() error { return c.watchCancels(keeping) })
	select {
	case <-taking.Done():
	case <-keeping.Done(): // the keeper failed
	}

	drained := make(chan struct{})
	go func() { // ends with the waits that follow it
		defer close(drained)
		c.closePools()
		c.pulls.Wait()
		c.calls.Wait()
	}()
	timer := time.NewTimer(c.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		c.cfg.Log.Warn("calls are cut off after the drain timeout", "in_flight", c.capacity.used.Load())
	case <-doing.Done():
	}
	stopDoing()
	// Calls end now; their results may have to wait to be stored.
	hurry := time.AfterFunc(writeGrace, stopWriting)
	defer hurry.Stop()
	<-drained
	// All that was taken is now with one of the batchers.
	c.starts.close()
	starts.Wait()
	c.finishes.close()
	finishes.Wait()
	c.unstored.close()
	unstored.Wait()
	closing, cancel := context.WithTimeout(kept, brokerTimeout)
	defer cancel()
	err = c.keeper.Close(closing)
	// Acks are written behind; a process that exits now would lose them.
	if flushErr := c.cfg.Conn.FlushWithContext(closing); err == nil && flushErr != nil {
		err = fmt.Errorf("flushing acks: %w", flushErr)
	}
	stopKeeping()
	if bgErr := background.Wait(); bgErr != nil {
		return bgErr
	}
	return err
}

// openPool begins to consume a model, until it is retired.
func (c *Consumer) openPool(a *slots.Account) (changed, retired func()) {
	p := &pool{c: c, account: a, metrics: c.metrics.model(a.Model()), room: notify.New(), times: make(slotTimes)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return func() {}, func() {}
	}
	p.tray = c.inbox.open(a.Model())
	c.pools = append(slices.Clip(c.pools), p)
	pulling, stopPulling := context.WithCancel(c.taking)
	c.pulls.Go(func() { p.pull(pulling) })
	return p.dispatchReady, func() {
		stopPulling()
		c.closePool(p)
	}
}

// closePool ends a pool whose model was retired. Nobody had a slot of the model,
// so no call is in flight; what came in the last moment goes back to the stream.
func (c *Consumer) closePool(p *pool) {
	c.mu.Lock()
	c.pools = slices.DeleteFunc(slices.Clone(c.pools), func(other *pool) bool { return other == p })
	c.mu.Unlock()
	p.close()
	c.metrics.forget(p.account.Model())
}

func (c *Consumer) closePools() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, p := range c.openPools() {
		p.close()
	}
}

// openPools returns a list that is not to be changed.
func (c *Consumer) openPools() []*pool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pools
}

// room is how many more messages this consumer takes. Those whose results wait
// for Postgres count too, so nothing is pulled while it is away.
func (c *Consumer) room() int {
	if c.inflight.heavy() || c.capacity.results.Load() >= c.capacity.maxResults {
		return 0
	}
	return max(c.cfg.MaxInFlight+unwritten-c.inflight.count(), 0)
}

// renewLeases keeps the messages in flight from being redelivered, releases those
// that wait in vain, and cuts off the calls that are late.
func (c *Consumer) renewLeases(ctx context.Context) error {
	interval := min(c.cfg.Lease/12, 250*time.Millisecond)
	tick := time.NewTimer(interval)
	defer tick.Stop()
	loop := c.cfg.Watch.Loop("renewing leases")
	defer loop.End()
	for {
		loop.Idle()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if c.inflight.count() == 0 { // nothing is leased, and nothing waits
			select {
			case <-ctx.Done():
				return nil
			case <-c.inflight.added.C():
			}
		}
		tick.Reset(interval)
		loop.Busy()
		// Twice within the lease, so that one renewal may be lost.
		held, late := c.inflight.leases(time.Now(), c.cfg.Lease*2/5, c.cfg.ProcessingTimeout)
		for _, t := range held {
			c.report(t.msg.InProgress())
		}
		for _, t := range late {
			t.cutOff()
		}
		for _, p := range c.openPools() {
			p.releaseWaiting()
		}
	}
}

// report logs that an answer to the broker could not be sent. Nothing else is
// needed: the message's lease runs out, and Postgres knows better.
func (c *Consumer) report(err error) {
	if err != nil {
		c.metrics.dropped(telemetry.DroppedAnswer, 1)
		c.cfg.Log.Debug("answering the broker", "err", err)
	}
}
