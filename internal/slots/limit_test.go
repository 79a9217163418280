package slots

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/streams"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	list := func(want map[batch.Model]Entry) {
		t.Helper()
		got, err := List(t.Context(), e.slots)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("List (-want +got):\n%s", diff)
		}
	}
	list(map[batch.Model]Entry{})
	if err := Apply(t.Context(), e.slots, model, Settings{Limit: 7}); !errors.Is(err, batch.ErrNotFound) {
		t.Errorf("Apply of a model without an entry = %v, want ErrNotFound", err)
	}
	list(map[batch.Model]Entry{})

	e.ensureModel(t, 7)
	e.ensureModel(t, 8)
	if err := EnsureModel(t.Context(), e.slots, "other", Settings{Limit: 2}); err != nil {
		t.Fatal(err)
	}
	list(map[batch.Model]Entry{model: {Model: model, Limit: 7}, "other": {Model: "other", Limit: 2}})

	if err := Apply(t.Context(), e.slots, model, Settings{Limit: 9}); err != nil {
		t.Fatal(err)
	}
	before, err := e.slots.Get(t.Context(), streams.Token(model))
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), e.slots, model, Settings{Limit: 9}); err != nil {
		t.Fatal(err)
	}
	after, err := e.slots.Get(t.Context(), streams.Token(model))
	if err != nil {
		t.Fatal(err)
	}
	if after.Revision() != before.Revision() {
		t.Error("an unchanged limit was written")
	}
	list(map[batch.Model]Entry{model: {Model: model, Limit: 9}, "other": {Model: "other", Limit: 2}})

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Apply(ended, e.slots, model, Settings{Limit: 3}); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply with an ended context = %v", err)
	}
}

// A limit is set while daemons change the same entry.
func TestApplyKeepsHoldings(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.ensureModel(t, 1)
	var g errgroup.Group
	const writers, times = 4, 20
	for i := range writers {
		g.Go(func() error {
			for n := range times {
				current, err := e.slots.Get(t.Context(), streams.Token(model))
				if err != nil {
					return err
				}
				entry, err := decode(current.Value())
				if err != nil {
					return err
				}
				next := entry.with(id(i), Holder{Held: n + 1})
				for {
					_, err := e.slots.Update(t.Context(), streams.Token(model), next.encode(), current.Revision())
					if err == nil {
						break
					}
					if !streams.LostRace(err) {
						return err
					}
					if current, err = e.slots.Get(t.Context(), streams.Token(model)); err != nil {
						return err
					}
					if entry, err = decode(current.Value()); err != nil {
						return err
					}
					next = entry.with(id(i), Holder{Held: n + 1})
				}
			}
			return nil
		})
	}
	for limit := range times {
		g.Go(func() error { return Apply(t.Context(), e.slots, model, Settings{Limit: batch.Limit(limit + 2)}) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := e.entry(t).Held(); got != writers*times {
		t.Errorf("%d slots are held, want %d: a write was lost", got, writers*times)
	}
}

func TestMalformedEntry(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	if _, err := e.slots.Put(t.Context(), streams.Token(model), []byte("{")); err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), e.slots, model, Settings{Limit: 3}); err == nil {
		t.Error("Apply takes a malformed entry")
	}
	if _, err := List(t.Context(), e.slots); err == nil {
		t.Error("List takes a malformed entry")
	}
	w := e.worker(t, 1, 10) // is not stopped by it
	w.work(5, false)
	if _, err := e.slots.Put(t.Context(), streams.Token(model), Entry{Model: model, Limit: 2}.encode()); err != nil {
		t.Fatal(err)
	}
	until(t, "calls are made", func() bool { return w.made.Load() == 5 })
}
