package slots

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A model with holders stays; without any it goes, everywhere, and comes back.
func TestRetire(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	workers := e.workersBefore(t, 2, 10)
	for round := range 3 {
		e.ensureModel(t, 4)
		for _, w := range workers {
			<-w.accounts
		}
		workers[0].work(0, true)
		until(t, "it has slots", func() bool { return e.entry(t).Held() > 0 })
		if retired, err := Retire(t.Context(), e.slots, model); err != nil || retired {
			t.Fatalf("a model with holders: retired %v, %v", retired, err)
		}
		workers[0].work(0, false)
		until(t, "nobody holds slots", func() bool { return len(e.entry(t).Holders) == 0 })
		until(t, "it is retired", func() bool {
			retired, err := Retire(t.Context(), e.slots, model)
			if err != nil {
				t.Fatal(err)
			}
			return retired
		})
		for _, w := range workers {
			until(t, "its accounts end", func() bool { return w.retired.Load() == int64(round+1) })
			if n := w.keeper.open(); n != 0 {
				t.Errorf("%d accounts are left", n)
			}
		}
	}
	if retired, err := Retire(t.Context(), e.slots, "never seen"); err != nil || !retired {
		t.Errorf("an unknown model: retired %v, %v", retired, err)
	}
}

func (k *Keeper) open() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.accounts)
}

// workersBefore begins workers before there is a model.
func (e *env) workersBefore(t *testing.T, n, capacity int) []*worker {
	t.Helper()
	out := make([]*worker, n)
	for i := range out {
		out[i] = e.worker(t, byte(i+1), capacity)
	}
	return out
}

// A removal that the watch did not see shows when the bucket is read.
func TestRemovedEntryIsNoticed(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 4)
	w := e.worker(t, 1, 10)
	<-w.accounts
	stream, err := e.JS.Stream(t.Context(), "KV_"+e.slots.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.>")); err != nil { // watchers hear nothing of it
		t.Fatal(err)
	}
	revision, err := e.slots.PutString(t.Context(), "other", `{"model":"other","limit":1}`) // so that the sequence grows
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the watch has delivered the other entry", func() bool { return w.keeper.watched.Load() == revision })
	w.keeper.watched.Store(0)
	until(t, "the account ends", func() bool { return w.retired.Load() == 1 })
}
