package consume

import (
	"math/rand/v2"
	"sync"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
)

const (
	// lately is how old an answer may be that speaks for the credential.
	lately = 10 * time.Minute
	// doubted is how many refusals in a row may be the requests' own fault, if the
	// credential has answered lately.
	doubted = 3
	// maxAnswers bounds the batches with keys of their own whose answers are
	// remembered.
	maxAnswers = 10_000
)

// holdCall is what the task's call is made with.
func (t *task) holdCall(k hold.Key) hold.Call {
	with := hold.Call{Credential: k, Model: t.pool.account.Model(), Owner: t.start.Owner}
	if t.start.HasOwnKey {
		with.Batch = t.delivery.ID.Batch
	}
	return with
}

// observe tells the holds how a call has ended, and returns the decision about its
// request.
func (c *Consumer) observe(t *task, with hold.Call, began time.Time, o *upstream.Outcome, d decision) decision {
	if c.cfg.HoldAfter == 0 {
		return d
	}
	if o.Refusal == nil {
		if o.Response.StatusCode > 0 {
			c.answers.add(t, with, began)
			c.holds.Answered(with, began, t.probe)
		}
		return d
	}
	if d.kind != fail && d.kind != retry {
		return d
	}
	return c.refuse(t, with, o, d)
}

// refuse decides about a request whose call was refused for what is most likely not
// its own fault: a wrong key must not fail a million lines. It is released, its
// attempts as they were, until what refuses it is held. If nothing comes to be
// held, because other calls do get answers, it is decided as any other is.
//
// One that is refused as content is by some endpoints, with a bare 403, is failed
// at once while others get answers.
func (c *Consumer) refuse(t *task, with hold.Call, o *upstream.Outcome, d decision) decision {
	known := c.answers.lately(t, with)
	refusal := hold.Refusal{Cause: o.Refusal.Kind, Status: o.Response.StatusCode, Detail: o.Refusal.Cause}
	if !known {
		refusal.Before = t.start.Refused + 1
	}
	held, inARow := c.holds.Refused(with, refusal)
	switch {
	case held:
	case o.Reason == batch.NotFound, d.denied == batch.DeniedDeadline:
		return d
	case known && inARow <= doubted && o.Refusal.Kind.Info().Scope == batch.ScopeOwner:
		return d
	case t.start.Refused+1 >= c.cfg.HoldAfter:
		return d
	}
	delay := c.cfg.Retry.Jittered(0, rand.Float64())
	return decision{kind: release, task: t, release: postgres.Release{
		Delivery: t.delivery, Refused: !held, Delay: delay, Due: held || t.waitsInPostgres(delay),
		Reason: o.Reason, StatusCode: o.Response.StatusCode, Cause: o.Cause,
	}}
}

// answers remembers when calls were last answered. It is safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	owns map[hold.Key]time.Time // of batches with keys of their own
}

func (a *answers) add(t *task, with hold.Call, at time.Time) {
	if with.Batch == (batch.ID{}) {
		t.pool.answered.Store(at.UnixNano())
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.owns == nil || len(a.owns) >= maxAnswers {
		a.owns = make(map[hold.Key]time.Time)
	}
	a.owns[with.Credential] = at
}

func (a *answers) lately(t *task, with hold.Call) bool {
	if with.Batch == (batch.ID{}) {
		return time.Since(time.Unix(0, t.pool.answered.Load())) < lately
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.owns[with.Credential]) < lately
}

const (
	// gentlePause is how long a request waits that is one too many after a hold.
	gentlePause = 2 * time.Second
	// maxSpread spreads what a hold keeps waiting over the time after its end.
	maxSpread = 5 * time.Second
	// refusedPause is how long what is refused waits at least, so that it is there
	// soon after the hold is lifted.
	refusedPause = 500 * time.Millisecond
)

// heldTask is one that may not be called for so long.
type heldTask struct {
	task *task
	wait time.Duration
	due  bool // it waits in Postgres, where nothing claims it while it is held
}

// takeHeld takes the tasks that next has set apart, for releaseHeld. The caller
// holds the lock.
func (p *pool) takeHeld() []heldTask {
	held := p.held
	p.held = nil
	p.c.calls.Add(len(held)) // so that a drain waits for these too
	return held
}

// releaseHeld releases them without waiting: a goroutine that wakes a pool, such
// as a flush of results, must not wait for room in the queue of results.
func (p *pool) releaseHeld(held []heldTask) {
	if len(held) == 0 {
		return
	}
	go func() { // as one of c.calls
		for _, h := range held {
			d := released(h.task, h.wait)
			d.release.Due = d.release.Due || h.due
			p.c.finish(d)
			p.c.calls.Done()
		}
	}()
}
