package slots

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"fusillade/internal/batch"
	"fusillade/streams"
)

func TestKeepersNeverPassTheLimit(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 8)
	e.ceiling.Store(8)
	workers := e.workers(t, 3, 100)
	for _, w := range workers {
		w.work(0, true)
	}
	for _, limit := range []int{8, 3, 12, 1, 8} {
		if int64(limit) > e.ceiling.Load() {
			e.ceiling.Store(int64(limit))
		}
		e.setLimit(t, limit)
		until(t, "all slots and no more are held", func() bool { return e.entry(t).Held() == limit })
		until(t, "calls have fallen to the limit", func() bool { return e.running.Load() <= int64(limit) })
		e.ceiling.Store(int64(limit))
		more(t, workers, 100)
		until(t, "all slots are used", func() bool { return e.running.Load() == int64(limit) })
		if n := e.passed.Load(); n > 0 {
			t.Fatalf("%d calls in flight with a limit of %d", n, limit)
		}
	}
}

func TestKeepersShare(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 9)
	workers := e.workers(t, 3, 100)
	workers[0].work(0, true)
	until(t, "the first has all slots", func() bool { return e.entry(t).Holders[workers[0].id.String()].Held == 9 })
	workers[1].work(0, true)
	workers[2].work(0, true)
	until(t, "each has three slots", func() bool {
		holders := e.entry(t).Holders
		return holders[workers[0].id.String()].Held == 3 && holders[workers[1].id.String()].Held == 3 && holders[workers[2].id.String()].Held == 3
	})

	workers[1].work(0, false)
	until(t, "the others have what one left", func() bool {
		e := e.entry(t)
		return e.Holders[workers[1].id.String()].Held == 0 && e.Held() == 9
	})
	workers[0].work(0, false)
	workers[2].work(0, false)
	until(t, "idle daemons hold nothing", func() bool { e := e.entry(t); return e.Limit == 9 && len(e.Holders) == 0 })
}

// A single slot goes from one to the next as each ends its work.
func TestKeepersShareOneSlot(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 1)
	e.ceiling.Store(1)
	workers := e.workers(t, 3, 100)
	for _, w := range workers {
		w.work(40, false)
	}
	until(t, "all work is done", func() bool {
		return workers[0].made.Load() == 40 && workers[1].made.Load() == 40 && workers[2].made.Load() == 40
	})
	if n := e.passed.Load(); n > 0 {
		t.Errorf("%d calls in flight with a limit of 1", n)
	}
}

// No daemon may begin a call while the calls of another, begun before the
// limit was lowered, still take all slots.
func TestKeepersLetCallsEndAfterALowering(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 6)
	slow, other := e.worker(t, 1, 100), e.worker(t, 2, 100)
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open) // before the worker's, which waits for its calls
	slow.mu.Lock()
	slow.gate = gate
	slow.mu.Unlock()
	slow.work(0, true)
	until(t, "all slots are used", func() bool { return e.running.Load() == 6 })
	e.setLimit(t, 2)
	e.ceiling.Store(6)
	other.work(0, true)
	until(t, "the other asks for slots", func() bool { return e.entry(t).Holders[other.id.String()].Want > 0 })
	if n := other.made.Load(); n > 0 {
		t.Errorf("%d calls were begun beyond a lowered limit", n)
	}
	slow.mu.Lock()
	slow.gate = nil
	slow.mu.Unlock()
	open()
	more(t, []*worker{other}, 20)
	until(t, "calls have fallen to the limit", func() bool { return e.running.Load() <= 2 && e.entry(t).Held() <= 2 })
	if n := e.passed.Load(); n > 0 {
		t.Errorf("%d calls in flight", n)
	}
}

func TestKeepersDropTheDead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		corpse Holder
		work   bool
	}{
		"busy":                           {Holder{Held: 5, Want: 9}, true},
		"holds all, and nobody has work": {Holder{Held: 9, Want: 9}, false},
		"holds nothing and wants":        {Holder{Want: 9}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.ensureModel(t, 9)
			dead := batch.DaemonID{99}.String()
			entry := e.entry(t).with(dead, tt.corpse)
			if _, err := e.slots.Put(t.Context(), streams.Token(model), entry.encode()); err != nil {
				t.Fatal(err)
			}
			workers := e.workers(t, 2, 100)
			if tt.work {
				workers[0].work(0, true)
			}
			until(t, "the slots of the dead are free", func() bool {
				e := e.entry(t)
				_, there := e.Holders[dead]
				return e.Limit == 9 && !there
			})
			if tt.work {
				until(t, "all slots are used", func() bool { return e.running.Load() == 9 })
			}
		})
	}
}

// A heartbeat that is missing in the bucket says nothing while Postgres has one:
// the bucket was lost, or is that of another half of the broker.
func TestKeepersSpareWhoLivesByPostgres(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 9)
	other := batch.DaemonID{99}
	e.recorded.Store(other, true)
	entry := e.entry(t).with(other.String(), Holder{Held: 5, Want: 5})
	if _, err := e.slots.Put(t.Context(), streams.Token(model), entry.encode()); err != nil {
		t.Fatal(err)
	}
	e.ceiling.Store(4)
	w := e.worker(t, 1, 100)
	w.work(0, true)
	until(t, "dead daemons are looked up", func() bool { return e.looked.Load() >= 3 })
	more(t, []*worker{w}, 20)
	if held := e.entry(t).Holders[other.String()].Held; held != 5 || e.passed.Load() > 0 {
		t.Errorf("%d slots are left to a daemon that lives, and %d calls were in flight beside its 5 of 9", held, e.passed.Load())
	}
}

// An older copy of the broker's store is put back: revisions count anew from
// there, and nobody holds what is in use.
func TestBucketGoesBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 6)
	workers := e.workers(t, 2, 100)
	copied := t.TempDir()
	const store = "jetstream"
	err := e.Broker.RestartWith(func(dir string) error { return os.CopyFS(copied, os.DirFS(filepath.Join(dir, store))) })
	if err != nil {
		t.Fatal(err)
	}
	workers[0].work(0, true)
	until(t, "all slots are used", func() bool { return e.running.Load() == 6 })
	for i := range 5 { // revisions that will be of another time
		e.setLimit(t, 6-i%2)
	}
	more(t, workers, 50)
	for _, w := range workers { // who knows only what is put back cannot tell
		until(t, "the worker knows of revisions that will be of another time", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.account != nil && w.account.known() > 6
		})
	}
	e.ceiling.Store(6)
	err = e.Broker.RestartWith(func(dir string) error {
		return errors.Join(os.RemoveAll(filepath.Join(dir, store)), os.CopyFS(filepath.Join(dir, store), os.DirFS(copied)))
	})
	if err != nil {
		t.Fatal(err)
	}
	workers[1].work(0, true)
	more(t, workers[1:], 20)
	more(t, workers[:1], 20)
	e.setLimit(t, 3)
	until(t, "a new limit holds", func() bool { return e.running.Load() <= 3 && e.entry(t).Held() <= 3 })
	if n := e.passed.Load(); n > 0 {
		t.Errorf("%d calls were in flight with a limit of 6", n)
	}
}

func TestKeeperGivesEverythingBack(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 6)
	closing, staying := e.worker(t, 1, 100), e.worker(t, 2, 100)
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	closing.mu.Lock()
	closing.gate = gate
	closing.mu.Unlock()
	closing.work(0, true)
	until(t, "all slots are used", func() bool { return e.running.Load() == 6 })

	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := closing.keeper.Close(short); !errors.Is(err, context.Canceled) {
		t.Errorf("Close with calls in flight = %v, want context.Canceled", err)
	}
	open()
	if err := closing.keeper.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	entry := e.entry(t)
	if _, holds := entry.Holders[closing.id.String()]; holds || entry.Limit != 6 {
		t.Errorf("after Close the entry is %+v", entry)
	}
	if closing.account.Acquire() {
		t.Error("a closed keeper hands out slots")
	}
	staying.work(0, true)
	until(t, "all slots are used by the other", func() bool { return e.running.Load() == 6 })
}

func TestKeepersOutliveTheServer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 4)
	e.ceiling.Store(4)
	workers := e.workers(t, 3, 100)
	for _, w := range workers {
		w.work(0, true)
	}
	until(t, "all slots are used", func() bool { return e.running.Load() == 4 })
	if err := e.Broker.Restart(); err != nil {
		t.Fatal(err)
	}
	more(t, workers, 50)
	e.ceiling.Store(9)
	e.setLimit(t, 9)
	until(t, "all slots are used after a restart", func() bool { return e.running.Load() == 9 })
	workers[0].work(0, false)
	until(t, "the others have what one left", func() bool {
		e := e.entry(t)
		return e.Holders[workers[0].id.String()].Held == 0 && e.Held() == 9
	})
	if n := e.passed.Load(); n > 0 {
		t.Errorf("%d calls in flight with a limit of 9", n)
	}
}

// The broker lost its data and a dispatcher made it anew: revisions begin
// again at one.
func TestKeepersOutliveTheBucket(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 4)
	for limit := range 50 {
		e.setLimit(t, limit+1)
	}
	w := e.worker(t, 1, 100)
	w.work(0, true)
	until(t, "all slots are used", func() bool { return e.running.Load() == 50 })
	if err := e.JS.DeleteKeyValue(t.Context(), streams.SlotsBucket); err != nil {
		t.Fatal(err)
	}
	e.ensure()
	e.ensureModel(t, 3)
	until(t, "the new limit is in force", func() bool { return e.entry(t).Held() == 3 && e.running.Load() == 3 })
}

// Calls that were in flight when the bucket was lost hold slots of the new one,
// so that nobody else is given them.
func TestKeepersRestoreCallsInANewBucket(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]int{"the same limit": 4, "a lower limit": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t)
			e.ensureModel(t, 4)
			e.ceiling.Store(4)
			busy := e.workers(t, 2, 100)
			gate := make(chan struct{})
			end := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(end)
			for _, w := range busy {
				w.mu.Lock()
				w.gate = gate
				w.mu.Unlock()
				w.work(0, true)
			}
			until(t, "all slots are used", func() bool { return e.running.Load() == 4 })
			if err := e.JS.DeleteKeyValue(t.Context(), streams.SlotsBucket); err != nil {
				t.Fatal(err)
			}
			e.ensure()
			until(t, "the calls are carried over", func() bool {
				entry := e.entry(t)
				return entry.Held() == 4 && entry.Limit == 0 && len(entry.Holders) == 2
			})
			e.ensureModel(t, limit)
			newcomer := e.worker(t, 3, 100)
			newcomer.work(0, true)
			until(t, "the newcomer asks for slots", func() bool { return e.entry(t).Holders[newcomer.id.String()].Want > 0 })
			if got := e.entry(t).Limit; got != limit {
				t.Errorf("the limit is %d, want %d", got, limit)
			}
			if n := newcomer.made.Load(); n > 0 {
				t.Errorf("%d calls were made while all slots were in use", n)
			}
			for _, w := range busy {
				w.work(0, false)
			}
			end()
			more(t, []*worker{newcomer}, 20)
			if n := e.passed.Load(); n > 0 {
				t.Errorf("%d calls in flight with a limit of 4", n)
			}
			until(t, "the newcomer has all slots", func() bool { return e.running.Load() == int64(limit) })
		})
	}
}

func TestKeeperFollowsADeletedModel(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 4)
	w := e.worker(t, 1, 100)
	w.work(0, true)
	until(t, "all slots are used", func() bool { return e.running.Load() == 4 })
	if err := e.slots.Delete(t.Context(), streams.Token(model)); err != nil {
		t.Fatal(err)
	}
	until(t, "no call is made", func() bool { return e.running.Load() == 0 })
	e.ensureModel(t, 2)
	until(t, "calls are made again", func() bool { return e.running.Load() == 2 })
	if got := e.entry(t).Model; got != model {
		t.Errorf("the entry's model is %q, want %q", got, model)
	}
}
