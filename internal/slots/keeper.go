package slots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

// Config says whose slots a Keeper keeps.
type Config struct {
	Conn   *nats.Conn
	Daemon batch.DaemonID
	// Capacity is the number of calls this daemon can run at once.
	Capacity int
	// HeartbeatInterval is how long after a reconnect the heartbeats of others
	// are not checked, because they may just not have been renewed yet.
	HeartbeatInterval time.Duration
	// Dead returns which of these daemons are dead by Postgres's record. A heartbeat
	// that is missing in the bucket is no proof: the bucket may have been lost, or
	// be that of another half of a broker that is split. Required.
	Dead func(context.Context, []batch.DaemonID) (map[batch.DaemonID]bool, error)
	// OnModel is called for each model that appears, one at a time. It returns
	// what to call when more slots may be acquired, and what to call once when the
	// model is retired: the account has no slots any more. A model that comes back
	// has another account. It must not call the Keeper.
	OnModel func(*Account) (changed, retired func())
	// Metrics is where what is dropped is counted; nil: nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Keeper keeps a daemon's accounts in step with the bucket.
type Keeper struct {
	cfg     Config
	slots   jetstream.KeyValue
	daemons jetstream.KeyValue
	created time.Time     // when the bucket of slots was; owned by poll once it runs
	read    uint64        // the bucket's last sequence when poll read it; owned by poll
	readAt  time.Time     // when that was; owned by poll
	older   int           // looks in a row that found the bucket older than what is known of it; owned by poll
	watched atomic.Uint64 // the highest revision that a watch of this bucket delivered
	anew    notify.Signal // to watch: the bucket is another one than before
	suspect notify.Signal // to poll: the bucket may be older than what is known of it
	dropped prometheus.Counter
	// measured is of automatic limits, as decisions is.
	measured  *measured
	decisions decisions

	mu                sync.Mutex
	accounts          map[string]*Account // by key
	generation        int                 // of the bucket: how many were lost
	closing           bool
	trustHeartbeatsAt time.Time // no daemon is declared dead before
}

const (
	// pollInterval backs up the watch, which is blind for up to 19 s after a
	// server restart (nats-server 2.15, measured). After an error or a
	// reconnect, the bucket is read sooner.
	pollInterval = 2 * time.Second
	pollAgain    = 200 * time.Millisecond
	// rereadInterval is how long the bucket is not read while its last sequence is
	// that of the last entry delivered: the watch may have missed one before it.
	rereadInterval = time.Minute
	// settleInterval is how often an account looks whether to release slots, and
	// idleInterval the same while it has none.
	settleInterval = 100 * time.Millisecond
	idleInterval   = 10 * time.Second
	// deathInterval is how often heartbeats of others are looked up while
	// slots are short.
	deathInterval = 500 * time.Millisecond
	opTimeout     = 2 * time.Second
)

// NewKeeper binds to the buckets. The daemon's heartbeat must be in the bucket
// of daemons before Run.
func NewKeeper(ctx context.Context, cfg Config) (*Keeper, error) {
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("binding slots: %w", err)
	}
	k := &Keeper{cfg: cfg, accounts: make(map[string]*Account), anew: notify.New(), suspect: notify.New(),
		dropped: telemetry.Drops(cfg.Metrics).WithLabelValues(telemetry.DroppedSlots), measured: newMeasured(cfg.Metrics),
		decisions: decisions{deciders: make(map[string]*decider), silent: make(map[string]int), urgent: notify.New(), begins: notify.New()}}
	if k.slots, err = js.KeyValue(ctx, streams.SlotsBucket); err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.SlotsBucket, err)
	}
	if k.daemons, err = js.KeyValue(ctx, streams.DaemonsBucket); err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.DaemonsBucket, err)
	}
	if k.created, err = k.bucketCreated(ctx); err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.SlotsBucket, err)
	}
	return k, nil
}

// Run keeps the accounts until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	k.distrustHeartbeats()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return k.watch(ctx, g) })
	g.Go(func() error { return k.poll(ctx, g) })
	g.Go(func() error { return k.decide(ctx) })
	return g.Wait()
}

// Close stops handing out slots and releases those that are free, then the
// others as their calls end. It returns when all are released, or ctx ends.
// Run must still be running.
func (k *Keeper) Close(ctx context.Context) error {
	k.mu.Lock()
	k.closing = true
	accounts := make([]*Account, 0, len(k.accounts))
	for _, a := range k.accounts {
		accounts = append(accounts, a)
	}
	k.mu.Unlock()
	k.decisions.begins.Notify()
	for _, a := range accounts {
		a.close()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, a := range accounts {
		for !a.settled() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("releasing slots: %w", ctx.Err())
			case <-tick.C:
			}
		}
	}
	return nil
}

func (k *Keeper) distrustHeartbeats() {
	k.mu.Lock()
	k.trustHeartbeatsAt = time.Now().Add(k.cfg.HeartbeatInterval * 3 / 2)
	k.mu.Unlock()
}

// watch follows the bucket, and starts over after each reconnect and error.
func (k *Keeper) watch(ctx context.Context, g *errgroup.Group) error {
	connected := k.cfg.Conn.StatusChanged(nats.CONNECTED)
	defer k.cfg.Conn.RemoveStatusListener(connected)
	pause := backoff.New(pollAgain, pollInterval)
	for {
		err := k.follow(ctx, g, connected, pause)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			k.cfg.Log.Warn("the bucket of slots could not be watched", "err", err)
		}
		if pause.Wait(ctx) != nil {
			return nil
		}
	}
}

func (k *Keeper) follow(ctx context.Context, g *errgroup.Group, connected <-chan nats.Status, pause *backoff.Backoff) error {
	generation := k.bucket()
	w, err := k.slots.WatchAll(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = w.Stop() }()
	pause.Reset()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
			k.distrustHeartbeats()
			return nil
		case <-k.anew.C():
			return nil
		case update, ok := <-w.Updates():
			if !ok {
				return errors.New("the watch ended")
			}
			if update != nil { // nil marks the end of the initial values
				k.observe(ctx, g, update, generation)
				k.hasWatched(update.Revision(), generation)
			}
		}
	}
}

func (k *Keeper) hasWatched(revision uint64, generation int) {
	k.during(generation, func() { k.watched.Store(max(k.watched.Load(), revision)) })
}

// poll reads the bucket now and then, as the authority behind the watch.
func (k *Keeper) poll(ctx context.Context, g *errgroup.Group) error {
	connected := k.cfg.Conn.StatusChanged(nats.CONNECTED)
	defer k.cfg.Conn.RemoveStatusListener(connected)
	wait := pollInterval
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
			wait = pollAgain / 2 // not all daemons at one instant
			continue
		case <-k.suspect.C():
		case <-time.After(backoff.Jitter(wait)):
		}
		wait = pollInterval
		if err := k.readAll(ctx, g); err != nil && ctx.Err() == nil {
			k.cfg.Log.Warn("the bucket of slots could not be read", "err", err)
			wait = pollAgain
		}
		if k.older > 0 {
			wait = pollAgain
		}
	}
}

// readAll reads the bucket unless the watch has delivered all that is in it.
func (k *Keeper) readAll(running context.Context, g *errgroup.Group) error {
	ctx, cancel := context.WithTimeout(running, opTimeout)
	defer cancel()
	known, revisions := k.known() // before the bucket is asked
	info, err := streams.BucketInfo(ctx, k.slots)
	if err != nil {
		return err
	}
	if !info.Created.Equal(k.created) {
		k.cfg.Log.Warn("the bucket of slots was lost and made anew")
		k.created, k.read = info.Created, 0
		k.older = 0
		k.forget(time.Time{})
		known, revisions = 0, nil
	}
	last := info.State.LastSeq
	now := time.Now()
	if last == known && now.Sub(k.readAt) < rereadInterval {
		return nil
	}
	generation := k.bucket()
	entries, err := streams.ReadBucket(ctx, k.slots)
	if err != nil {
		return err
	}
	if k.wentBack(info, known, entries, revisions) {
		return nil
	}
	found := make(map[string]bool, len(entries))
	for _, entry := range entries {
		found[entry.Key()] = true
		k.observe(running, g, entry, generation)
	}
	k.removed(found, last, generation)
	k.read, k.readAt = last, now
	return nil
}

// removed takes over that the bucket had, at its sequence last, only the keys
// that were found.
func (k *Keeper) removed(found map[string]bool, last uint64, generation int) {
	k.during(generation, func() {
		for key, a := range k.accounts {
			if !found[key] {
				a.removed(last)
			}
		}
	})
}

func (k *Keeper) bucketCreated(ctx context.Context) (time.Time, error) {
	info, err := streams.BucketInfo(ctx, k.slots)
	if err != nil {
		return time.Time{}, err
	}
	return info.Created, nil
}

// bucket is the generation of the bucket that is known now.
func (k *Keeper) bucket() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.generation
}

// during does something unless the bucket is another one by now.
func (k *Keeper) during(generation int, do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if generation == k.generation {
		do()
	}
}

// forget makes the keeper learn everything again: the revisions of another
// bucket say nothing about this one's.
//
// quiet is until when none of them takes slots: nobody knows yet what the others
// have in flight.
func (k *Keeper) forget(quiet time.Time) {
	k.mu.Lock()
	k.generation++
	k.watched.Store(0)
	for _, a := range k.accounts {
		a.forget(quiet)
	}
	k.mu.Unlock()
	k.anew.Notify()
}

// observe takes over an entry that was read from a bucket of that generation.
func (k *Keeper) observe(ctx context.Context, g *errgroup.Group, update jetstream.KeyValueEntry, generation int) {
	var e Entry
	if update.Operation() == jetstream.KeyValuePut {
		var err error
		if e, err = decode(update.Value()); err != nil {
			k.dropped.Inc()
			k.cfg.Log.Error("slots entry is malformed", "key", update.Key(), "err", err)
			return
		}
	}
	k.mu.Lock()
	a, known := k.accounts[update.Key()]
	if generation != k.generation || !known && (e.Model == "" || k.closing) {
		k.mu.Unlock()
		return
	}
	if !known {
		a = &Account{model: e.Model, daemon: k.cfg.Daemon.String(), capacity: k.cfg.Capacity,
			wake: notify.New(), urgent: k.decisions.urgent, changed: func() {}, gone: func() {}}
		// Under the lock: others may use the account once they can see it.
		if k.cfg.OnModel != nil {
			a.changed, a.gone = k.cfg.OnModel(a)
		}
		k.accounts[update.Key()] = a
	}
	a.observe(e, update.Revision())
	k.mu.Unlock()
	if !known {
		g.Go(func() error { return k.settle(ctx, update.Key(), a) })
	}
	if a.meter.on.Load() {
		k.decisions.begins.Notify()
	}
	a.wake.Notify()
	a.changed()
}
