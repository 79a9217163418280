package callback

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeStore owes calls as Postgres does. It can lose the answer to a write that took
// effect.
type fakeStore struct {
	t         *testing.T
	me        batch.DaemonID
	loseFirst atomic.Bool

	mu     sync.Mutex
	seq    int64
	owed   map[postgres.Callback]batch.DaemonID // zero: due
	bodies map[int64][]byte
}

func newFakeStore(t *testing.T) *fakeStore {
	return &fakeStore{t: t, me: batch.DaemonID{1}, owed: make(map[postgres.Callback]batch.DaemonID), bodies: make(map[int64][]byte)}
}

func (s *fakeStore) FinishOwing(_ context.Context, daemon batch.DaemonID, completions []postgres.Completion, _ []postgres.Release, o postgres.Owing) (written map[batch.RequestID]bool, results []batch.Result, deferred, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written = make(map[batch.RequestID]bool)
	for _, c := range completions {
		s.seq++
		s.bodies[s.seq] = c.Body
		if o.Later {
			s.owed[postgres.Callback{Batch: c.ID.Batch, Seq: s.seq}] = daemon
		}
		written[c.ID] = true
		results = append(results, batch.Result{ID: c.ID, Seq: s.seq, Body: c.Body, State: c.State})
	}
	if s.loseFirst.Swap(false) {
		return nil, nil, nil, errors.New("the answer was lost")
	}
	return written, results, nil, nil
}

func (s *fakeStore) TakeCallbacks(_ context.Context, daemon batch.DaemonID, _ time.Duration, _, _ bool, n int) (list []postgres.Callback, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c, owner := range s.owed {
		if len(list) < n && owner == (batch.DaemonID{}) {
			s.owed[c] = daemon
			list = append(list, c)
		}
	}
	return list, nil
}

func (s *fakeStore) ReleaseCallbacks(_ context.Context, daemon batch.DaemonID, known []postgres.Callback) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := make(map[postgres.Callback]bool)
	for _, k := range known {
		keep[k] = true
	}
	for c, owner := range s.owed {
		if owner == daemon && !keep[c] {
			s.owed[c] = batch.DaemonID{}
		}
	}
	return nil
}

func (s *fakeStore) SettleCallbacks(_ context.Context, _ batch.DaemonID, made []postgres.Callback, failed []postgres.FailedCallback) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range made {
		if _, ok := s.owed[c]; !ok {
			s.t.Errorf("%v is settled twice", c)
		}
		delete(s.owed, c)
	}
	for _, f := range failed {
		s.owed[f.Callback] = batch.DaemonID{} // the delay is Postgres's
	}
	return nil
}

func (s *fakeStore) OwedResult(_ context.Context, c postgres.Callback) (batch.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return batch.Result{ID: batch.RequestID{Batch: c.Batch}, Seq: c.Seq, Body: s.bodies[c.Seq]}, nil
}

func (s *fakeStore) CallInTx(context.Context, batch.DaemonID, postgres.Callback, postgres.InTx) (bool, error) {
	s.t.Error("nothing is owed in a transaction")
	return false, nil
}

func (s *fakeStore) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owed)
}

// weight counts what waits.
type weight struct{ now, most atomic.Int64 }

func (w *weight) AddResult(bytes int) { w.most.Store(max(w.most.Load(), w.now.Add(int64(bytes)))) }

func (w *weight) FreeResult(bytes int) { w.now.Add(-int64(bytes)) }

func start(t *testing.T, s *fakeStore, w *weight, onResult func(context.Context, batch.Result) error, drain time.Duration) (c *Caller, stop func()) {
	t.Helper()
	c, err := New(Config{
		Program: Program{OnResult: onResult, Workers: 4}, Store: s, Daemon: s.me, StaleThreshold: time.Second, DrainTimeout: drain, Log: testenv.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.SetGate(w)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		testenv.Receive(t, "the caller ends", done)
	})
	t.Cleanup(stop)
	return c, stop
}

func completions(n int) []postgres.Completion {
	list := make([]postgres.Completion, n)
	for i := range list {
		list[i] = postgres.Completion{Delivery: postgres.Delivery{ID: batch.RequestID{Line: int32(i + 1)}}, State: batch.Completed, Body: make([]byte, 1000)}
	}
	return list
}

// What waits for a slow program is counted until its call is recorded.
func TestResultsThatWaitAreCounted(t *testing.T) {
	t.Parallel()
	s, w := newFakeStore(t), new(weight)
	release := make(chan struct{})
	c, stop := start(t, s, w, func(context.Context, batch.Result) error {
		<-release
		return nil
	}, time.Hour)
	const n = 50
	if _, err := c.Finish(t.Context(), s.me, completions(n), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := w.now.Load(), int64(n*(itemBytes+1000)); got != want {
		t.Errorf("%d bytes wait, want %d", got, want)
	}
	close(release)
	stop() // what is queued is called
	if s.left() != 0 || w.now.Load() != 0 {
		t.Errorf("%d calls are owed and %d bytes counted after all were made", s.left(), w.now.Load())
	}
}

// A write that took effect and seemed to fail owes calls that nobody knows of.
func TestLostAnswersAreCalled(t *testing.T) {
	t.Parallel()
	s, w := newFakeStore(t), new(weight)
	s.loseFirst.Store(true)
	var called atomic.Int64
	c, _ := start(t, s, w, func(_ context.Context, r batch.Result) error {
		if len(r.Body) != 1000 {
			t.Errorf("a result of %d bytes", len(r.Body))
		}
		called.Add(1)
		return nil
	}, 0)
	if _, err := c.Finish(t.Context(), s.me, completions(250), nil); err == nil {
		t.Fatal("the answer was not lost")
	}
	testenv.Eventually(t, "all were called", func() bool { return s.left() == 0 && called.Load() == 250 })
}

// A program that hangs until it is cut off leaves its results to the next process.
func TestCutOff(t *testing.T) {
	t.Parallel()
	s, w := newFakeStore(t), new(weight)
	c, stop := start(t, s, w, func(ctx context.Context, _ batch.Result) error {
		<-ctx.Done()
		return ctx.Err()
	}, 0)
	if _, err := c.Finish(t.Context(), s.me, completions(20), nil); err != nil {
		t.Fatal(err)
	}
	stop()
	if s.left() != 20 {
		t.Errorf("%d calls are owed, want 20", s.left())
	}
}

func TestRetriesAreFurtherAndFurtherApart(t *testing.T) {
	t.Parallel()
	for tries, want := range map[int]time.Duration{0: time.Second, 3: 8 * time.Second, 9: 512 * time.Second, 10: maxRetry, 99: maxRetry} {
		if got := retryIn(tries); got != want {
			t.Errorf("after %d tries in %v, want %v", tries, got, want)
		}
	}
}
