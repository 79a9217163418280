package callback

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/notify"
	"fusillade/internal/postgres"
)

const (
	// itemBytes is what a result that waits counts besides its body: so their number
	// is bounded too.
	itemBytes = 16 << 10
	// CallTimeout is when the context of a call ends.
	CallTimeout = time.Minute

	minRetry, maxRetry = time.Second, 10 * time.Minute
)

// Caller makes the calls that a daemon owes. It is the store of the daemon's
// consumer where it comes to results.
type Caller struct {
	cfg     Config
	metrics *metrics
	gate    Gate          // set by Run's caller, before the first Finish
	more    notify.Signal // to the sweep: something was owed again, or may have been lost
	settled notify.Signal // to settle: there is something

	mu     sync.Mutex
	queued *sync.Cond // of mu: the queue has grown, or the phase changed
	queue  []item
	swept  int                       // of the queue: those of a sweep
	known  map[postgres.Callback]int // what this daemon has to call or to settle, and what it weighs
	made   []postgres.Callback       // to be settled
	failed []postgres.FailedCallback // to be settled
	phase  phase
	lost   bool      // the answer to a write was lost, which may owe calls
	due    time.Time // when the next sweep is at the latest; zero: after its interval
}

// item is a call to be made. Without a result, that is still to be read.
type item struct {
	postgres.Callback
	result *batch.Result
}

// New returns a Caller. Finish may be called while Run runs; the gate must be set
// before.
func New(cfg Config) (*Caller, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Caller{cfg: cfg, metrics: newMetrics(cfg.Metrics), more: notify.New(), settled: notify.New(), known: make(map[postgres.Callback]int)}
	c.queued = sync.NewCond(&c.mu)
	return c, nil
}

// SetGate says what results that wait count against.
func (c *Caller) SetGate(b Gate) { c.gate = b }

// Finish is that of the store, and has the program called of what was written.
func (c *Caller) Finish(ctx context.Context, daemon batch.DaemonID, completions []postgres.Completion, releases []postgres.Release) (map[batch.RequestID]bool, error) {
	o := postgres.Owing{Later: c.cfg.OnResult != nil}
	if c.cfg.OnResultTx != nil {
		o.InTx = c.inTx
	}
	written, results, deferred, err := c.cfg.Store.FinishOwing(ctx, daemon, completions, releases, o)
	if err != nil {
		// The commit may have happened. Its results are fenced when they are written
		// again, and nobody here would know what is owed of them.
		c.mu.Lock()
		c.lost = true
		c.mu.Unlock()
		c.again(time.Now().Add(sweepSoon))
		return nil, err
	}
	failpoint.Hit(failpoint.Owed)
	if deferred != nil {
		c.cfg.Log.Error("OnResultTx failed: its results are stored, and it is called again of each by itself", "results", len(results), "err", deferred)
		c.again(time.Now().Add(minRetry))
	}
	if o.Later {
		items := make([]item, len(results))
		for i := range results {
			r := &results[i]
			items[i] = item{postgres.Callback{Batch: r.ID.Batch, Seq: r.Seq}, r}
		}
		c.enqueue(items)
	}
	return written, nil
}

func (c *Caller) inTx(ctx context.Context, tx pgx.Tx, results []batch.Result) (err error) {
	began := time.Now()
	defer func() { c.metrics.called(true, began, err) }()
	err = protect(func() error { return c.cfg.OnResultTx(ctx, tx, results) })
	failpoint.Hit(failpoint.Within)
	return err
}

// protect makes a panic of the program an error. Its value may be of a prompt or an
// answer, so it is not told; where it came from is.
func protect(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic (%T) at:\n%s", p, debug.Stack())
		}
	}()
	return call()
}

func (c *Caller) enqueue(items []item) {
	if len(items) == 0 {
		return
	}
	weight := 0
	c.mu.Lock()
	for _, i := range items {
		k := key(i.Callback)
		if _, ok := c.known[k]; ok {
			continue
		}
		w := itemBytes
		if i.result != nil {
			w += len(i.result.Body)
		}
		if i.result == nil {
			c.swept++
		}
		c.known[k] = w
		weight += w
		c.queue = append(c.queue, i)
	}
	c.metrics.waiting.Set(float64(len(c.known)))
	c.mu.Unlock()
	c.gate.AddResult(weight)
	c.queued.Broadcast()
}

// key is a callback without what changes.
func key(c postgres.Callback) postgres.Callback {
	c.Tries = 0
	return c
}

// take waits for the next call. False: there is none any more.
func (c *Caller) take() (item, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == 0 && c.phase == working {
		c.queued.Wait()
	}
	if len(c.queue) == 0 || c.phase >= cutOff {
		return item{}, false
	}
	i := c.queue[0]
	c.queue[0] = item{}
	if i.result == nil {
		c.swept--
	}
	c.queue = c.queue[1:]
	return i, true
}

// work makes calls until there is none any more.
func (c *Caller) work(ctx context.Context) {
	for {
		i, ok := c.take()
		if !ok {
			return
		}
		err := c.call(ctx, i)
		switch {
		case err != nil && ctx.Err() != nil: // cut off: another daemon makes it
		case err != nil:
			c.cfg.Log.Error("the program's callback failed and is called again", "batch_id", i.Batch, "place", i.Seq, "tries", i.Tries+1, "err", err)
			c.settle(i.Callback, retryIn(i.Tries))
		default:
			failpoint.Hit(failpoint.Answered)
			c.settle(i.Callback, 0)
		}
	}
}

func retryIn(tries int) time.Duration {
	if tries > 10 {
		return maxRetry
	}
	return min(minRetry<<tries, maxRetry)
}

func (c *Caller) call(ctx context.Context, i item) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	if i.InTx {
		_, err := c.cfg.Store.CallInTx(ctx, c.cfg.Daemon, i.Callback, c.inTx)
		return err
	}
	if i.result == nil {
		r, err := c.cfg.Store.OwedResult(ctx, i.Callback)
		if errors.Is(err, batch.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		i.result = &r
	}
	began := time.Now()
	err := protect(func() error { return c.cfg.OnResult(ctx, *i.result) })
	c.metrics.called(false, began, err)
	return err
}
