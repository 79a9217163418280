package dispatch

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

const (
	brokerTimeout  = 5 * time.Second
	publishPending = 1024 // publishes without an ack, of all lanes together
	publishTimeout = 10 * time.Second
	stallWait      = 5 * time.Second
	lanesPerPoll   = 128
)

// Dispatcher keeps every model's window filled.
type Dispatcher struct {
	// Set by New and not changed.
	cfg      Config
	js       jetstream.JetStream
	streams  []jetstream.Stream // by shard
	slots    jetstream.KeyValue
	holds    *hold.Registry
	metadata *metadataCache
	metrics  *metrics
	restored singleflight.Group // of slotsRestored

	// Shared by the lanes.
	queries   *turns // of reads and claims
	publishes *turns // of messages that are claimed and not confirmed

	work    notify.Signal // to Run: there may be new work or new settings
	changed notify.Signal // to the leader: there are new settings, or models
	ended   notify.Signal // to the leader: a daemon may have ended
	lost    notify.Signal // to the leader: the broker seems to have lost something
	spent   notify.Signal // to the leader: the budget of a batch may be spent

	published atomic.Int64 // when a lane published last, in Unix nanoseconds

	// Guarded by mu.
	mu       sync.Mutex
	lanes    map[batch.Model]*lane
	settings *settings
}

// New binds to the stream and the buckets, which must exist.
func New(ctx context.Context, cfg Config) (*Dispatcher, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.ReclaimBatchSize = cmp.Or(cfg.ReclaimBatchSize, defaultReclaimBatchSize)
	js, err := jetstream.New(cfg.Conn, jetstream.WithPublishAsyncMaxPending(publishPending),
		jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return nil, fmt.Errorf("connecting to JetStream: %w", err)
	}
	d := &Dispatcher{
		cfg: cfg, js: js, metadata: newMetadataCache(cfg.Store, cfg.MetadataFields), metrics: newMetrics(cfg.Metrics),
		queries: newTurns(queriesAtOnce), publishes: newTurns(publishesAtOnce),
		work: notify.New(), changed: notify.New(), ended: notify.New(), lost: notify.New(), spent: notify.New(), lanes: make(map[batch.Model]*lane),
	}
	d.settings = newSettings(&d.cfg, nil)
	for _, shard := range cfg.Streams.Shards.All() {
		stream, err := js.Stream(ctx, shard.Stream())
		if err != nil {
			return nil, fmt.Errorf("binding stream %s: %w", shard.Stream(), err)
		}
		d.streams = append(d.streams, stream)
	}
	if d.slots, err = js.KeyValue(ctx, streams.SlotsBucket); err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.SlotsBucket, err)
	}
	if d.holds, err = hold.New(ctx, hold.Config{Conn: cfg.Conn, Max: cfg.MaxHold, MaxProbe: cfg.MaxProbe, Changed: d.holdsChanged, Log: cfg.Log}); err != nil {
		return nil, err
	}
	return d, nil
}

// Run dispatches until ctx ends, and returns when nothing is on its way to
// the stream any more.
func (d *Dispatcher) Run(ctx context.Context) error {
	defer telemetry.Attach(d.cfg.Metrics, &d.metrics.queue)()
	work, err := d.cfg.Conn.Subscribe(streams.HintWork, func(*nats.Msg) {
		d.work.Notify()
		d.ended.Notify()
		d.spent.Notify()
	})
	if err != nil {
		return fmt.Errorf("listening for work: %w", err)
	}
	defer func() { _ = work.Unsubscribe() }()
	times, err := d.cfg.Conn.Subscribe(streams.HintCallTimes, d.called)
	if err != nil {
		return fmt.Errorf("listening for call times: %w", err)
	}
	defer func() { _ = times.Unsubscribe() }()
	drained, err := d.cfg.Conn.QueueSubscribe(streams.HintDrainedAll, streams.DispatcherQueue, d.drained)
	if err != nil {
		return fmt.Errorf("listening for drained work: %w", err)
	}

	var lanes sync.WaitGroup
	defer lanes.Wait()
	defer func() { _ = drained.Unsubscribe() }() // first: hints are for those who go on
	lanes.Go(func() { d.lead(ctx) })
	lanes.Go(func() { d.holds.Run(ctx) })
	loop := d.cfg.Watch.Loop("looking for work")
	defer loop.End()
	for {
		loop.Busy()
		if err := d.survey(ctx, &lanes); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("work could not be looked for", "err", err)
		}
		loop.Idle()
		select {
		case <-ctx.Done():
			return nil
		case <-d.work.C():
		case <-time.After(backoff.Jitter(d.cfg.ClaimInterval)):
		}
	}
}

// holdsChanged makes every lane read again what waits: some of it was held.
func (d *Dispatcher) holdsChanged() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lanes {
		l.stale.Store(true)
		l.wake.Notify()
	}
}

func (d *Dispatcher) drained(msg *nats.Msg) {
	model, err := streams.ParseHintDrained(msg.Subject)
	if err != nil {
		d.metrics.lostHints.Inc()
		d.cfg.Log.Warn("a hint was malformed and dropped", "subject", msg.Subject, "err", err)
		return
	}
	if l := d.lane(model); l != nil {
		l.wake.Notify()
		return
	}
	d.work.Notify() // others were not told
}

// survey reads the settings and the models with work, opens lanes for new
// ones and wakes the others.
func (d *Dispatcher) survey(ctx context.Context, lanes *sync.WaitGroup) error {
	set, models, err := d.cfg.Store.Survey(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.adopt(set)
	for _, model := range d.settings.withEscalations(models) {
		l := d.lanes[model]
		if l == nil {
			l = newLane(d, model)
			d.lanes[model] = l
			d.changed.Notify()
			lanes.Go(func() { l.run(ctx) })
		}
		l.stale.Store(true)
		if l.starved.Load() { // the others read when they have room
			l.wake.Notify()
		}
	}
	return nil
}

// pollInterval is how often a lane looks without being woken, in case a hint was
// lost: the more lanes there are, the less often each does.
func (d *Dispatcher) pollInterval() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return min(d.cfg.ClaimInterval*time.Duration(1+len(d.lanes)/lanesPerPoll), max(d.cfg.ClaimInterval, longestWait))
}

// stream is the stream of a model's messages.
func (d *Dispatcher) stream(model batch.Model) jetstream.Stream { return d.streams[d.shard(model)] }

func (d *Dispatcher) shard(model batch.Model) streams.Shard { return d.cfg.Streams.Shards.Of(model) }

func (d *Dispatcher) lane(model batch.Model) *lane {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lanes[model]
}

// releaseClaims returns requests that could not be published to pending, to be
// due after the delay, and says how many it returned. A crash before it lands leaves them to the leader's sweep.
func (d *Dispatcher) releaseClaims(ctx context.Context, requests []postgres.ClaimedRequest, delay time.Duration) int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	n, err := d.cfg.Store.ReleaseClaims(ctx, requests, delay)
	d.metrics.released(len(requests), n, err)
	if err != nil {
		d.cfg.Log.Warn("claims could not be released; their requests return after the claim timeout", "requests", len(requests), "err", err)
	}
	return n
}
