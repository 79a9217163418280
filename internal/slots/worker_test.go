package slots

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/adaptive"
	"fusillade/internal/batch"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/testcluster"
	"fusillade/streams"
)

const model = batch.Model("meta-llama/Llama-3.1:8b instruct")

var until = testenv.Eventually

// env is a broker with its buckets.
type env struct {
	*testcluster.NATS
	slots jetstream.KeyValue
	// running is the number of calls in flight, of all workers.
	running atomic.Int64
	// ceiling is what running may not pass; passed is the highest that did.
	ceiling, passed atomic.Int64
	// recorded says which daemons live by Postgres's record, whatever the bucket
	// says; looked is how often that was asked.
	recorded sync.Map
	looked   atomic.Int64
	// refuses is how many calls the endpoint takes; 0: all.
	refuses atomic.Int64
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{NATS: testcluster.NewNATS(t)}
	e.ceiling.Store(1 << 40)
	e.ensure()
	return e
}

func (e *env) ensure() {
	e.T.Helper()
	e.EnsureStreams(streams.Config{StaleDaemonThreshold: time.Hour})
	e.slots = e.Bucket(streams.SlotsBucket)
}

func (e *env) dead(_ context.Context, ids []batch.DaemonID) (map[batch.DaemonID]bool, error) {
	e.looked.Add(1)
	dead := make(map[batch.DaemonID]bool)
	for _, id := range ids {
		if _, lives := e.recorded.Load(id); !lives {
			dead[id] = true
		}
	}
	return dead, nil
}

func (e *env) ensureModel(t *testing.T, limit int) {
	t.Helper()
	if err := EnsureModel(t.Context(), e.slots, model, Settings{Limit: batch.Limit(limit)}); err != nil {
		t.Fatal(err)
	}
}

func (e *env) setLimit(t *testing.T, limit int) {
	t.Helper()
	until(t, "the limit is written", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return Apply(ctx, e.slots, model, Settings{Limit: batch.Limit(limit)}) == nil
	})
}

func (e *env) entry(t *testing.T) Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	all, err := List(ctx, e.slots)
	if err != nil {
		return Entry{} // the broker is away: ask again
	}
	return all[model]
}

// worker is a keeper and simulated calls, one connection of its own.
type worker struct {
	env    *env
	keeper *Keeper
	id     batch.DaemonID
	conn   *nats.Conn

	calls sync.WaitGroup
	made  atomic.Int64
	// retired counts the accounts that ended.
	retired atomic.Int64
	// accounts gets the one account when it appears.
	accounts chan *Account

	mu      sync.Mutex
	account *Account
	queued  int           // calls that wait
	endless bool          // there is always more work
	gate    chan struct{} // if not nil, calls end when it closes
}

const ready = 2 // requests at hand, at most

func (e *env) worker(t *testing.T, n byte, capacity int) *worker {
	t.Helper()
	w := &worker{env: e, id: batch.DaemonID{n}, conn: testenv.Connect(t, e.Broker), accounts: make(chan *Account, 16)}
	_, err := e.Bucket(streams.DaemonsBucket).Put(t.Context(), w.id.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.keeper, err = NewKeeper(t.Context(), Config{
		Conn: w.conn, Daemon: w.id, Capacity: capacity, HeartbeatInterval: 10 * time.Millisecond,
		Dead: e.dead, OnModel: w.open, Log: testenv.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ran := make(chan error, 1)
	go func() { ran <- w.keeper.Run(ctx) }()
	t.Cleanup(func() {
		w.work(0, false)
		w.calls.Wait()
		stop()
		if err := <-ran; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return w
}

func (w *worker) open(a *Account) (changed, retired func()) {
	w.mu.Lock()
	w.account = a
	w.mu.Unlock()
	w.accounts <- a
	return w.pump, func() { w.retired.Add(1) }
}

// work sets what waits. Endless work is taken as slots allow.
func (w *worker) work(queued int, endless bool) {
	w.mu.Lock()
	w.queued, w.endless = queued, endless
	w.mu.Unlock()
	w.pump()
}

func (w *worker) pump() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.account == nil {
		return
	}
	for (w.endless || w.queued > 0) && w.account.Acquire() {
		if !w.endless {
			w.queued--
		}
		running := w.env.running.Add(1)
		if running > w.env.ceiling.Load() {
			w.env.passed.Store(running)
		}
		gate, mark := w.gate, w.account.CallBegins()
		most := w.env.refuses.Load()
		w.calls.Go(func() { w.call(gate, mark, most > 0 && running > most) })
	}
	if w.endless {
		w.account.Report(ready, true)
	} else {
		w.account.Report(min(w.queued, ready), w.queued > ready)
	}
}

func (w *worker) call(gate chan struct{}, mark Mark, refused bool) {
	const took = 3 * time.Millisecond
	switch {
	case refused:
		w.account.CallEnds(mark, Outcome{Took: 1, Congestion: adaptive.Refused})
	case gate != nil:
		<-gate
	default:
		<-time.After(took)
		w.account.CallEnds(mark, Outcome{Took: took, Completed: true})
	}
	w.env.running.Add(-1)
	w.account.Release()
	w.made.Add(1)
	w.pump()
}

// more waits until the workers have made so many calls more.
func more(t *testing.T, workers []*worker, calls int64) {
	t.Helper()
	made := func() (n int64) {
		for _, w := range workers {
			n += w.made.Load()
		}
		return n
	}
	goal := made() + calls
	until(t, "calls are made", func() bool { return made() >= goal })
}

func (e *env) workers(t *testing.T, n, capacity int) []*worker {
	t.Helper()
	var all []*worker
	for i := range n {
		all = append(all, e.worker(t, byte(i+1), capacity))
	}
	return all
}
