package slots

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
)

// settle brings one account's entry in line with its needs, until ctx ends or the
// model is retired.
func (k *Keeper) settle(ctx context.Context, key string, a *Account) error {
	timer := time.NewTimer(settleInterval)
	defer timer.Stop()
	var checked time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake.C():
		case <-timer.C:
		}
		a.unpark(time.Now())
		for ctx.Err() == nil {
			var dead map[string]bool
			if now := time.Now(); a.short() && now.Sub(checked) >= deathInterval {
				checked, dead = now, k.dead(ctx, a)
			}
			generation := k.bucket()
			next, revision, write := a.plan(time.Now(), dead)
			if !write || k.write(ctx, key, a, next, revision, generation) {
				break
			}
		}
		if k.drop(key, a) {
			a.gone()
			return nil
		}
		timer.Reset(a.nextLook())
	}
}

// drop forgets an account whose model was retired. Should its entry come back
// before, it is not.
func (k *Keeper) drop(key string, a *Account) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.accounts[key] != a || !a.retired() || k.closing {
		return false
	}
	delete(k.accounts, key)
	return true
}

// write applies a plan for a bucket of that generation. False means that the
// entry had changed and that the plan must be made anew.
func (k *Keeper) write(ctx context.Context, key string, a *Account, next Entry, revision uint64, generation int) bool {
	opCtx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	written, err := k.slots.Update(opCtx, key, next.encode(), revision)
	if err == nil {
		k.during(generation, func() { a.applied(next, written) })
		return true
	}
	// Whether or not a write that failed was applied, what the bucket says now
	// is what holds.
	getCtx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	current, getErr := k.slots.Get(getCtx, key)
	if getErr != nil {
		if ctx.Err() == nil {
			k.cfg.Log.Warn("slots could not be changed", "model", a.model, "err", err)
		}
		return true // the next tick tries again
	}
	e, decodeErr := decode(current.Value())
	if decodeErr != nil {
		k.dropped.Inc()
		k.cfg.Log.Error("slots entry is malformed", "key", key, "err", decodeErr)
		return true
	}
	k.during(generation, func() { a.observe(e, current.Revision()) })
	if current.Revision() < revision {
		k.suspect.Notify()
	}
	return current.Revision() <= revision // not changed by another: leave it to the next tick
}

// dead looks up which of the other holders have lost their heartbeat.
func (k *Keeper) dead(ctx context.Context, a *Account) map[string]bool {
	k.mu.Lock()
	tooEarly := time.Now().Before(k.trustHeartbeatsAt)
	k.mu.Unlock()
	if tooEarly || !k.cfg.Conn.IsConnected() {
		return nil
	}
	a.mu.Lock()
	holders := a.entry.Holders
	a.mu.Unlock()
	var silent []batch.DaemonID
	for id := range holders {
		holder, parseErr := batch.ParseDaemonID(id)
		if id == a.daemon || parseErr != nil {
			continue
		}
		getCtx, cancel := context.WithTimeout(ctx, opTimeout)
		_, err := k.daemons.Get(getCtx, id)
		cancel()
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			silent = append(silent, holder)
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return k.confirmDead(ctx, a, silent)
}

// confirmDead returns which of the daemons without a heartbeat in the bucket are
// dead by Postgres's record; none if it cannot be read.
func (k *Keeper) confirmDead(ctx context.Context, a *Account, silent []batch.DaemonID) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	ended, err := k.cfg.Dead(ctx, silent)
	if err != nil {
		if ctx.Err() == nil {
			k.cfg.Log.Warn("dead daemons could not be looked up", "err", err)
		}
		return nil
	}
	dead := make(map[string]bool, len(ended))
	for id := range ended {
		dead[id.String()] = true
		k.cfg.Log.Warn("the slots of a dead daemon are released", "daemon_id", id, "model", a.model)
	}
	return dead
}
