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
	"fusillade/internal/slots"
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
	// unwritten is how many messages may be in hand beyond the calls: fetched
	// ahead, or with a result that waits for Postgres.
	unwritten = 2048
	// writeGrace is how long results may take to be written once calls have
	// ended or been cut off.
	writeGrace = 10 * time.Second
)

// Consumer runs the calls of one daemon.
type Consumer struct {
	cfg    Config
	js     jetstream.JetStream
	keeper *slots.Keeper
	hands  hands

	metrics *metrics

	starts     *batcher[*task]
	finishes   *batcher[finished]
	flushBytes int            // of bodies, that a start returns at most, and one body more
	pulls      sync.WaitGroup // a pull loop per lane
	calls      sync.WaitGroup // calls in flight, and tasks being given back without one

	// Set by Run before anything else runs.
	taking  context.Context // ends when no more work is to be taken
	doing   context.Context // ends when calls must stop
	writing context.Context // ends when writes must stop

	inFlight                           atomic.Int64 // calls
	full                               atomic.Bool  // a call waits for this consumer's capacity
	turn                               atomic.Int64 // of the lanes at that capacity
	completed, failed, retried, fenced atomic.Int64
	aborted                            atomic.Int64
	look                               chan struct{} // requests in hand may have been cancelled

	callTime atomic.Int64 // nanoseconds
	trouble  atomic.Pointer[LastError]

	mu    sync.Mutex
	lanes []*lane
	done  bool // no lane is opened any more
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
	c := &Consumer{
		cfg: cfg, js: js, look: make(chan struct{}, 1),
		hands: hands{tasks: make(map[batch.RequestID]*task)}, metrics: newMetrics(cfg.Metrics),
	}
	c.cfg.Store = measuredStore{cfg.Store, c.metrics}
	c.starts = newBatcher(startBatch, flushWorkers, startLinger, c.flushStarts)
	c.finishes = newBatcher(finishBatch, flushWorkers, finishLinger, c.flushFinishes)
	c.flushBytes = flushBytes
	c.finishes.weigh, c.finishes.maxBytes = finished.size, flushBytes
	c.keeper, err = slots.NewKeeper(ctx, slots.Config{
		Conn: cfg.Conn, Daemon: cfg.Daemon, Capacity: cfg.MaxInFlight,
		HeartbeatInterval: cfg.HeartbeatInterval, OnModel: c.openLane, Metrics: cfg.Metrics, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Stats are counted since the start.
type Stats struct {
	Completed, Failed, Retried, Fenced int64
	// Aborted were in hand when they were cancelled or had otherwise ended
	// elsewhere: their calls were cut off or not made.
	Aborted  int64
	InFlight int
	CallTime time.Duration // of all calls together
	// Trouble is what last went wrong, nil if nothing did.
	LastError *LastError
}

// Trouble is something that keeps requests from completing.
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
		InFlight: int(c.inFlight.Load()), CallTime: time.Duration(c.callTime.Load()), LastError: c.trouble.Load(),
	}
}

// Run consumes until taking ends. It then takes no more work, hands back what
// it has not begun to call, lets calls in flight end within DrainTimeout or
// until doing ends, writes what came of them, and returns. It can be called
// once.
func (c *Consumer) Run(taking, doing context.Context) error {
	doing, stopDoing := context.WithCancel(doing)
	defer stopDoing()
	// What came of the calls is still written after doing has ended.
	writing, stopWriting := context.WithCancel(context.WithoutCancel(doing))
	defer stopWriting()
	c.taking, c.doing, c.writing = taking, doing, writing
	defer telemetry.Attach(c.cfg.Metrics, standings{c})()
	// Leases and slots are kept to the end.
	kept, stopKeeping := context.WithCancel(context.WithoutCancel(doing))
	defer stopKeeping()

	var starts, finishes sync.WaitGroup
	starts.Go(c.starts.run)
	finishes.Go(c.finishes.run)
	background, keeping := errgroup.WithContext(kept)
	background.Go(func() error { return c.keeper.Run(keeping) })
	background.Go(func() error { return c.renewLeases(keeping) })
	background.Go(func() error { return c.logStatus(keeping) })
	background.Go(func() error { return c.watchCancels(keeping) })
	select {
	case <-taking.Done():
	case <-keeping.Done(): // the keeper failed
	}

	drained := make(chan struct{})
	go func() { // ends with the waits that follow it
		defer close(drained)
		c.closeLanes()
		c.pulls.Wait()
		c.calls.Wait()
	}()
	timer := time.NewTimer(c.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		c.cfg.Log.Warn("calls are cut off after the drain timeout", "in_flight", c.inFlight.Load())
	case <-doing.Done():
	}
	stopDoing()
	// Calls end now; what came of them may have to wait for room to be written.
	hurry := time.AfterFunc(writeGrace, stopWriting)
	defer hurry.Stop()
	<-drained
	// All that was taken is now with one of the batchers.
	c.starts.close()
	starts.Wait()
	c.finishes.close()
	finishes.Wait()
	closing, cancel := context.WithTimeout(kept, brokerTimeout)
	defer cancel()
	err := c.keeper.Close(closing)
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

// openLane begins to consume a model.
func (c *Consumer) openLane(a *slots.Account) func() {
	l := &lane{c: c, account: a, metrics: c.metrics.model(a.Model()), room: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return func() {}
	}
	c.lanes = append(c.lanes, l)
	c.pulls.Go(func() { l.pull(c.taking) })
	return l.pump
}

func (c *Consumer) closeLanes() {
	c.mu.Lock()
	c.done = true
	c.mu.Unlock()
	for _, l := range c.openLanes() {
		l.close()
	}
}

func (c *Consumer) openLanes() []*lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lanes)
}

// pumpAll gives each lane its turn, beginning with another one each time, so
// that no backlog keeps the others from the capacity of this consumer.
func (c *Consumer) pumpAll() {
	lanes := c.openLanes()
	first := int(c.turn.Add(1))
	for i := range lanes {
		lanes[(first+i)%len(lanes)].pump()
	}
}

// acquire takes a place among the calls of this consumer.
func (c *Consumer) acquire() bool {
	for range 2 {
		for n := c.inFlight.Load(); n < int64(c.cfg.MaxInFlight); n = c.inFlight.Load() {
			if c.inFlight.CompareAndSwap(n, n+1) {
				return true
			}
		}
		c.full.Store(true) // and look again: the last call may just have ended
	}
	return false
}

// release gives the place back and reports whether another model may want it.
func (c *Consumer) release() bool {
	c.inFlight.Add(-1)
	return c.full.Swap(false)
}

// room is how many more messages this consumer takes in hand. Results that
// wait for Postgres are in hand too, so nothing is pulled while it is away.
func (c *Consumer) room() int {
	if c.hands.heavy() {
		return 0
	}
	return max(c.cfg.MaxInFlight+unwritten-c.hands.count(), 0)
}

// renewLeases keeps the messages in hand from being redelivered, and gives
// back those that wait in vain.
func (c *Consumer) renewLeases(ctx context.Context) error {
	tick := time.NewTicker(min(c.cfg.Lease/12, 250*time.Millisecond))
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
		loop.Busy()
		for _, t := range c.hands.due(time.Now(), c.cfg.Lease/3, c.cfg.ProcessingTimeout) {
			c.report(t.msg.InProgress())
		}
		for _, l := range c.openLanes() {
			l.shed()
		}
	}
}

// report logs that a word to the broker could not be sent. Nothing else is
// needed: the message's lease runs out, and Postgres knows better.
func (c *Consumer) report(err error) {
	if err != nil {
		c.metrics.dropped(telemetry.DroppedAnswer, 1)
		c.cfg.Log.Debug("answering the broker", "err", err)
	}
}
