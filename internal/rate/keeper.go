package rate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/internal/notify"
	"fusillade/streams"
)

const (
	// syncInterval is how often a lease is renewed while requests wait: ahead.
	syncInterval = ahead
	// syncsAtOnce bounds the syncs that run side by side.
	syncsAtOnce = 16
	opTimeout   = 2 * time.Second
	// tries is how often a write is tried that others were faster with; then it
	// waits for the next round.
	tries = 8
	// forgetAfter is how long an account is kept that is of no use.
	forgetAfter = 5 * time.Minute
	// MaxDemand is how many requests one lease is for at most.
	MaxDemand = 4096
)

// Config says whose leases a Keeper keeps. All but Log is required.
type Config struct {
	Conn   *nats.Conn
	Daemon batch.DaemonID
	// Demand returns the estimates, in tokens, of the requests that would be called
	// next if the account let them: those that wait, and those that are to be
	// expected until the next lease; MaxDemand at most. An estimate is that of
	// Account.Estimate. It must not call the Keeper.
	Demand func(*Account) []int64
	// Changed is called when an account has a new lease.
	Changed func(*Account)
	Log     *slog.Logger
}

// Keeper keeps a daemon's accounts in step with the bucket.
type Keeper struct {
	cfg  Config
	kv   bucket
	wake notify.Signal

	mu       sync.Mutex
	accounts map[string]*Account

	// scheduled are the accounts that may have something to do, and when they last
	// did it. Its lock is held around no other.
	scheduling sync.Mutex
	scheduled  map[*Account]time.Time
}

// NewKeeper binds to the bucket.
func NewKeeper(ctx context.Context, cfg Config) (*Keeper, error) {
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("binding rates: %w", err)
	}
	kv, err := js.KeyValue(ctx, streams.RatesBucket)
	if err != nil {
		return nil, fmt.Errorf("binding bucket %s: %w", streams.RatesBucket, err)
	}
	return newKeeper(cfg, keyValue{kv}), nil
}

func newKeeper(cfg Config, kv bucket) *Keeper {
	return &Keeper{cfg: cfg, kv: kv, wake: notify.New(), accounts: make(map[string]*Account), scheduled: make(map[*Account]time.Time)}
}

// Model returns the account of a model's limit, with the limit as it is now.
func (k *Keeper) Model(model batch.Model, l batch.RateLimit) *Account {
	return k.account(modelKey(model), model, l)
}

// Credential returns the account of a credential's limit. key stands for it.
func (k *Keeper) Credential(key string, l batch.RateLimit) *Account {
	return k.account(credentialKey(key), "", l)
}

// modelKey and credentialKey are keys of the bucket: a model's token holds no dot.
func modelKey(model batch.Model) string { return "model." + streams.Token(model) }

func credentialKey(key string) string { return "credential." + key }

func (k *Keeper) account(key string, model batch.Model, l batch.RateLimit) *Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	a := k.accounts[key]
	if a == nil {
		a = &Account{key: key, model: model, daemon: k.cfg.Daemon.String(), wake: k.schedule}
		k.accounts[key] = a
	}
	a.mu.Lock()
	a.limit, a.asked = l, time.Now()
	a.mu.Unlock()
	return a
}

// schedule makes the account due, if it was not looked at just now.
func (k *Keeper) schedule(a *Account) {
	k.scheduling.Lock()
	if _, ok := k.scheduled[a]; !ok {
		k.scheduled[a] = time.Time{}
	}
	k.scheduling.Unlock()
	k.wake.Notify()
}

// Run keeps the accounts until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	timer := time.NewTimer(syncInterval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake.C():
		case <-timer.C:
		}
		due, wait := k.next(time.Now())
		var g errgroup.Group
		g.SetLimit(syncsAtOnce)
		for _, a := range due {
			g.Go(func() error { k.sync(ctx, a); return nil })
		}
		_ = g.Wait() // sync reports its own errors
		if len(due) > 0 {
			wait = k.wait(time.Now())
		}
		timer.Reset(wait)
	}
}

// next returns the accounts that are due, and how long to wait if there is none.
func (k *Keeper) next(now time.Time) (due []*Account, wait time.Duration) {
	wait = forgetAfter
	k.scheduling.Lock()
	for a, last := range k.scheduled {
		if left := syncInterval - now.Sub(last); left > 0 {
			wait = min(wait, left)
			continue
		}
		due = append(due, a)
		delete(k.scheduled, a) // until it was looked at
	}
	k.scheduling.Unlock()
	if len(due) == 0 {
		k.mu.Lock()
		defer k.mu.Unlock()
		for key, a := range k.accounts {
			if a.idle(now) {
				delete(k.accounts, key)
			}
		}
	}
	return due, wait
}

// wait is how long nothing is due, by what is scheduled.
func (k *Keeper) wait(now time.Time) time.Duration {
	wait := forgetAfter
	k.scheduling.Lock()
	defer k.scheduling.Unlock()
	for _, last := range k.scheduled {
		wait = min(wait, max(syncInterval-now.Sub(last), 0))
	}
	return wait
}

func (a *Account) idle(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return now.Sub(a.asked) >= forgetAfter && a.lease == (Amount{}) && len(a.settled) == 0
}

// complainAgain is how often a failure that lasts is logged.
const complainAgain = time.Minute

// complains reports whether a failure is to be logged.
func (a *Account) complains(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.complained) < complainAgain {
		return false
	}
	a.complained = now
	return true
}

// sync writes what the account has to tell and leases what it needs.
func (k *Keeper) sync(ctx context.Context, a *Account) {
	demand := k.cfg.Demand(a)
	gained, err := k.write(ctx, a, demand)
	// Daemons that look at one moment would take turns in being late.
	if a.busy() {
		k.scheduling.Lock()
		k.scheduled[a] = time.Now().Add(-rand.N(syncInterval / 4))
		k.scheduling.Unlock()
	}
	if err != nil && ctx.Err() == nil && a.complains(time.Now()) {
		k.cfg.Log.Warn("a rate could not be leased; calls that need it wait", "model", a.model, "err", err)
	}
	if gained {
		k.cfg.Changed(a)
	}
}

func (k *Keeper) write(ctx context.Context, a *Account, demand []int64) (gained bool, err error) {
	t := a.take()
	for range tries {
		gained, again, err := k.writeOnce(ctx, a, t, demand)
		if !again {
			return gained, err
		}
	}
	a.restore(t, false)
	return false, nil
}

// writeOnce leaves what was taken with the account, unless it is to be called
// again.
func (k *Keeper) writeOnce(ctx context.Context, a *Account, t taken, demand []int64) (gained, again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	current, err := k.kv.get(ctx, a.key)
	if errors.Is(err, errMissing) {
		e := a.memory
		e.Model, e.Anew, e.Life, e.Turn = a.model, true, rand.Uint64(), nil
		err = k.kv.create(ctx, a.key, e.encode())
		if err == nil || errors.Is(err, errRace) {
			return false, true, nil
		}
	}
	if err != nil {
		a.restore(t, false)
		return false, false, err
	}
	e, err := decode(current.value)
	if err != nil {
		k.cfg.Log.Error("a rate's entry is malformed and is made anew", "key", a.key, "err", err)
		e = Entry{Anew: true, Life: rand.Uint64()}
	}
	e.Model = a.model
	began := time.Now()
	now, limit, vague := a.saw(current, began)
	if vague {
		at, err := k.kv.now(ctx)
		if err != nil {
			a.restore(t, false)
			return false, false, err
		}
		began = time.Now()
		now = a.told(at, began)
	}
	e.fold(current.at, limit)
	// The bucket was lost, or went back in time, or nothing is known yet. (A replica
	// that is behind looks as if it had; then the write finds another revision.)
	if e.Life != a.memory.Life || current.revision < a.seen {
		e.remember(a.memory)
	}
	a.seen = current.revision
	lease, write := t.apply(&e, now, limit, a.daemon, demand)
	a.show(e.used().plus(lease), len(demand) > 0 && lease == (Amount{}))
	a.memory = e
	a.memory.fold(now, limit) // what is leased here too
	if !write {
		return false, false, nil
	}
	number, err := k.kv.update(ctx, a.key, e.encode(), current.revision)
	switch {
	case err == nil:
		a.seen = number
		a.leased(lease, began, now, number)
		return lease != (Amount{}), false, nil
	case errors.Is(err, errRace):
		return false, true, nil
	}
	// It may have been written: what was leased counts as spent.
	a.restore(t, true)
	return false, false, err
}

// saw takes over a revision's time, which the broker's clock has passed, and
// returns one that it has passed now, the limit, and whether the broker should be
// asked for the time.
func (a *Account) saw(current revision, here time.Time) (time.Time, batch.RateLimit, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock.saw(current.at, here)
	if current.revision == a.wrote.revision {
		a.clock.saw(current.at, a.wrote.at)
	}
	return a.clock.at(here), a.limit, a.clock.vague(here)
}

// told takes over what the broker's clock shows, and returns a time that it has
// passed now.
func (a *Account) told(at, here time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock.saw(at, here)
	a.clock.asked = here
	return a.clock.at(here)
}

// show notes what was seen. waits: requests do, so the next sync is due.
func (a *Account) show(used Amount, waits bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used = used
	a.short = a.short || waits
}
