package callback

import (
	"context"
	"slices"
	"sync"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/postgres"
)

const (
	// Calls of dead daemons, and such that failed in other processes, are looked for
	// three times in the time after which a daemon is dead, within these bounds.
	minSweepInterval, maxSweepInterval = time.Second, 10 * time.Second
	// sweepSize is how many of each are taken at once, and how many may wait for a
	// worker when more are taken.
	sweepSize = 100
	// sweepSoon is when a sweep that found the queue full looks again.
	sweepSoon = 250 * time.Millisecond

	settleSize   = 1000
	settleLinger = 20 * time.Millisecond
	// settleGrace is how long calls may take to be recorded once the last was made.
	settleGrace = 5 * time.Second
)

// Run makes calls until ctx ends, and then, within the drain timeout, those that are
// queued by then. Nothing may be finished any more when ctx ends. What is left is for
// the next daemon. Run returns when the last call has.
func (c *Caller) Run(ctx context.Context) {
	calling, stopCalling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCalling()
	settling, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	var workers, others sync.WaitGroup
	for range c.cfg.Workers {
		workers.Go(func() { c.work(calling) })
	}
	others.Go(func() { c.sweepUntil(ctx) })
	others.Go(func() { c.settleUntil(settling) })
	<-ctx.Done()
	c.end(draining)
	drain := time.AfterFunc(c.cfg.DrainTimeout, func() {
		c.end(cutOff)
		stopCalling()
	})
	defer drain.Stop()
	workers.Wait()
	c.end(worked)
	grace := time.AfterFunc(settleGrace, stopSettling)
	defer grace.Stop()
	others.Wait()
	if left := c.left(); left > 0 {
		c.cfg.Log.Info("results are left of which the next process calls the program", "results", left)
	}
}

// phase is how far a Caller is with its end.
type phase int

const (
	working  phase = iota
	draining       // what is queued is called
	cutOff         // nothing is called any more
	worked         // no call is under way: what was called is to be recorded
)

func (c *Caller) end(p phase) {
	c.mu.Lock()
	c.phase = max(c.phase, p)
	c.mu.Unlock()
	c.queued.Broadcast()
	c.settled.Notify()
}

func (c *Caller) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.known)
}

// sweepUntil takes over calls that are due, and those of dead daemons.
func (c *Caller) sweepUntil(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.more.C():
		case <-timer.C:
			c.sweep(ctx)
		}
		timer.Reset(c.untilSweep())
	}
}

func (c *Caller) untilSweep() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait := backoff.Jitter(min(max(c.cfg.StaleThreshold/3, minSweepInterval), maxSweepInterval))
	if !c.due.IsZero() {
		wait = min(wait, max(time.Until(c.due), 0))
	}
	return wait
}

// again has the sweep look no later than then.
func (c *Caller) again(then time.Time) {
	c.mu.Lock()
	if c.due.IsZero() || then.Before(c.due) {
		c.due = then
	}
	c.mu.Unlock()
	c.more.Notify()
}

func (c *Caller) sweep(ctx context.Context) {
	c.mu.Lock()
	c.due = time.Time{}
	c.mu.Unlock()
	if err := c.findLost(ctx); err != nil {
		c.sweepFailed(ctx, err)
		return
	}
	for ctx.Err() == nil {
		if c.isBusy() {
			c.again(time.Now().Add(sweepSoon))
			return
		}
		list, err := c.cfg.Store.TakeCallbacks(ctx, c.cfg.Daemon, c.cfg.StaleThreshold, c.cfg.OnResult != nil, c.cfg.OnResultTx != nil, sweepSize)
		if err != nil {
			c.sweepFailed(ctx, err)
			return
		}
		items := make([]item, len(list))
		for i := range list {
			items[i] = item{Callback: list[i]}
		}
		c.enqueue(items)
		if len(list) == 0 {
			return
		}
	}
}

func (c *Caller) sweepFailed(ctx context.Context, err error) {
	if ctx.Err() == nil {
		c.cfg.Log.Warn("calls that are owed could not be looked for, which is tried again", "err", err)
	}
}

func (c *Caller) isBusy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.swept >= sweepSize
}

// findLost releases what this daemon owes and knows nothing of, if that may be.
func (c *Caller) findLost(ctx context.Context) error {
	c.mu.Lock()
	lost := c.lost
	known := make([]postgres.Callback, 0, len(c.known))
	for k := range c.known {
		known = append(known, k)
	}
	c.lost = false
	c.mu.Unlock()
	if !lost {
		return nil
	}
	err := c.cfg.Store.ReleaseCallbacks(ctx, c.cfg.Daemon, known)
	if err != nil {
		c.mu.Lock()
		c.lost = true
		c.mu.Unlock()
	}
	return err
}

// settle has a call recorded: as made, or as failed and due after the delay.
func (c *Caller) settle(of postgres.Callback, delay time.Duration) {
	c.mu.Lock()
	if delay > 0 {
		c.failed = append(c.failed, postgres.FailedCallback{Callback: key(of), Delay: delay})
	} else {
		c.made = append(c.made, key(of))
	}
	c.mu.Unlock()
	c.settled.Notify()
}

func (c *Caller) settleUntil(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.settled.C():
		}
		for c.settleSome(ctx) {
		}
		if c.isWorked() {
			return
		}
	}
}

func (c *Caller) isWorked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == worked && len(c.made) == 0 && len(c.failed) == 0
}

// settleSome records calls, and reports whether there may be more.
func (c *Caller) settleSome(ctx context.Context) bool {
	c.linger(ctx)
	c.mu.Lock()
	made, failed := c.made[:min(len(c.made), settleSize)], c.failed[:min(len(c.failed), settleSize)]
	c.made, c.failed = c.made[len(made):], c.failed[len(failed):]
	c.mu.Unlock()
	if len(made)+len(failed) == 0 {
		return false
	}
	for pause := backoff.New(50*time.Millisecond, 2*time.Second); ; {
		err := c.cfg.Store.SettleCallbacks(ctx, c.cfg.Daemon, made, failed)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			c.cfg.Log.Warn("calls of the program could not be recorded, which is tried again", "calls", len(made)+len(failed), "err", err)
		}
		if pause.Wait(ctx) != nil {
			return false // they are made again, by another daemon
		}
	}
	settled := slices.Clone(made) // behind it, settle appends
	for _, f := range failed {
		settled = append(settled, f.Callback)
		c.again(time.Now().Add(f.Delay))
	}
	c.forget(settled)
	return true
}

// linger waits for more to record, unless no more comes.
func (c *Caller) linger(ctx context.Context) {
	c.mu.Lock()
	now := c.phase == worked || len(c.made)+len(c.failed) == 0
	c.mu.Unlock()
	if now {
		return
	}
	timer := time.NewTimer(settleLinger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// forget takes calls out of what this daemon has to make.
func (c *Caller) forget(list []postgres.Callback) {
	weight := 0
	c.mu.Lock()
	for _, k := range list {
		weight += c.known[key(k)]
		delete(c.known, key(k))
	}
	c.metrics.waiting.Set(float64(len(c.known)))
	c.mu.Unlock()
	c.gate.FreeResult(weight)
}
