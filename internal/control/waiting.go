package control

import (
	"context"
	"slices"
	"sync"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/postgres"
)

// WaitCode says what keeps requests of a batch from being called.
type WaitCode string

// What keeps requests of a batch from being called.
const (
	WaitNoBroker   WaitCode = "no_broker"       // NATS cannot be reached
	WaitNoConsumer WaitCode = "no_consumer"     // no process that makes calls is alive
	WaitHeld       WaitCode = "held"            // the endpoint refuses every call
	WaitAsked      WaitCode = "asked"           // the endpoint asked for a pause
	WaitPaused     WaitCode = "paused"          // an operator paused the model
	WaitBudget     WaitCode = "budget_exceeded" // its budget is spent, and its last calls end
	WaitRetrying   WaitCode = "retrying"        // calls fail and are repeated
	WaitQueued     WaitCode = "queued"          // others' requests are called first
)

// Waiting is what holds a batch up.
type Waiting struct {
	Code   WaitCode
	Model  batch.Model // of which it is so; empty: of all
	Others int         // models of the batch of which it is so too
	Hold   hold.Hold   // of held and asked
	Since  time.Time   // of budget_exceeded
	// Ahead, of queued, are requests of the owner's other batches that are called
	// before, and Left how long it takes at the rate of late until they are; 0: not
	// known. Of other owners' nothing is said: they take turns.
	Ahead  int64
	Left   time.Duration
	Failed *postgres.LastFailure
}

const (
	// holdsAge is how old a list of holds may be that batches are compared with.
	holdsAge = time.Second
	// silence is how long a consumer may be without a heartbeat to count as alive,
	// and grace how long a batch may take to begin.
	silence = time.Minute
	grace   = 5 * time.Second
)

// holdsCache keeps one list of holds for all who look at their batches.
type holdsCache struct {
	mu   sync.Mutex
	read time.Time
	of   map[batch.Model][]hold.Hold
}

// Waiting says what holds a batch in progress up; nil: nothing does, as far as is
// known. While the broker is away it knows of no hold.
func (c *Controller) Waiting(ctx context.Context, b postgres.Batch) (*Waiting, error) {
	if b.Status.Terminal() || !b.CancellingAt.IsZero() {
		return nil, nil //nolint:nilnil // nothing holds it up
	}
	if !b.BudgetExceededAt.IsZero() {
		return &Waiting{Code: WaitBudget, Since: b.BudgetExceededAt}, nil
	}
	work, err := c.cfg.Store.BatchWork(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	alive, err := c.cfg.Store.OldestConsumer(ctx, silence)
	if err != nil {
		return nil, err
	}
	settings, err := c.cfg.Store.ModelSettings(ctx)
	if err != nil {
		return nil, err
	}
	w := &Waiting{Failed: work.Failed}
	of := func(code WaitCode, is func(batch.Model) bool) bool {
		for _, m := range work.Models {
			switch {
			case !is(m):
			case w.Code == "":
				w.Code, w.Model = code, m
			default:
				w.Others++
			}
		}
		return w.Code != ""
	}
	holds := c.recentHolds(ctx)
	held := func(refused bool) func(batch.Model) bool {
		return func(m batch.Model) bool {
			i := slices.IndexFunc(holds[m], func(h hold.Hold) bool {
				return (h.Cause != "") == refused && h.Of(m, b.ID, b.HasOwnKey, b.CreatedBy)
			})
			if i >= 0 && w.Code == "" {
				w.Hold = holds[m][i]
			}
			return i >= 0
		}
	}
	switch young := time.Since(b.CreatedAt) < grace; {
	case !c.cfg.Conn.IsConnected():
		w.Code = WaitNoBroker
	case alive == 0 && !young:
		w.Code = WaitNoConsumer
	case of(WaitPaused, func(m batch.Model) bool { return settings[m].Paused }), of(WaitHeld, held(true)), of(WaitAsked, held(false)):
		// A pause comes first: while it lasts no probe is made, so that mending what is
		// held would not be noticed.
	case work.Failed != nil && (!work.Processing || b.Counts.Completed == 0):
		w.Code, w.Model = WaitRetrying, work.Failed.Model
	case !work.Processing && !young:
		w.Code = WaitQueued
		place, err := c.cfg.Store.BatchPlace(ctx, b.ID)
		if err != nil {
			return nil, err
		}
		w.Ahead, w.Left = place.Ahead, leftAt(place)
	default:
		return nil, nil //nolint:nilnil // nothing holds it up
	}
	return w, nil
}

// leftAt is how long what is ahead takes at the rate of late; 0: there is none.
func leftAt(p postgres.BatchPlace) time.Duration {
	if p.Ahead == 0 || p.PerSecond == 0 {
		return 0
	}
	seconds := min(float64(p.Ahead)/p.PerSecond, maxLeft.Seconds())
	return max(time.Duration(seconds*float64(time.Second)), time.Second)
}

// maxLeft is beyond what an estimate says anything.
const maxLeft = 365 * 24 * time.Hour

// recentHolds are those in force, at most holdsAge ago.
func (c *Controller) recentHolds(ctx context.Context) map[batch.Model][]hold.Hold {
	c.recent.mu.Lock()
	defer c.recent.mu.Unlock()
	if time.Since(c.recent.read) > holdsAge {
		ctx, cancel := context.WithTimeout(ctx, holdsAge)
		defer cancel()
		of, err := c.holds(ctx)
		if err != nil {
			of = nil
		}
		c.recent.of, c.recent.read = of, time.Now()
	}
	return c.recent.of
}
