package control_test

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// Operators see the holds of a model, with their causes and ends, and lift them.
func TestHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	registry, err := hold.New(t.Context(), hold.Config{Conn: w.Conn, Log: testenv.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); registry.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	own := batch.ID{9}
	registry.Place(hold.BatchKey(own, "http://a", ""), hold.Hold{Models: []batch.Model{model}, Batch: own, Status: 429}, time.Minute)
	registry.Place(hold.EndpointKey("http://a", "sk", ""), hold.Hold{Models: []batch.Model{"another", model}, Status: 503}, time.Hour)
	holds := func() []hold.Hold {
		list, err := w.controller.Models(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Model == model {
				return m.Holds
			}
		}
		return nil
	}
	testenv.Eventually(t, "both are seen", func() bool { return len(holds()) == 2 })
	got := holds()
	if got[0].Batch != (batch.ID{}) || got[0].Status != 503 || time.Until(got[0].Until) <= 0 || got[1].Batch != own || got[1].Status != 429 {
		t.Errorf("holds are %+v", got)
	}
	if n, err := w.controller.LiftHolds(t.Context(), model, own); n != 1 || err != nil {
		t.Errorf("%d holds of one batch are lifted, %v", n, err)
	}
	if got := holds(); len(got) != 1 || got[0].Status != 503 {
		t.Errorf("holds are %+v", got)
	}
	if n, err := w.controller.LiftHolds(t.Context(), model, batch.ID{}); n != 1 || err != nil {
		t.Errorf("%d holds are lifted, %v", n, err)
	}
	testenv.Eventually(t, "the process that held sees it", func() bool {
		held, _ := registry.Held(model, batch.ID{}, false, "")
		return !held
	})

	// Before a dispatcher has made the bucket nothing is held.
	if err := w.JS.DeleteKeyValue(t.Context(), streams.HoldsBucket); err != nil {
		t.Fatal(err)
	}
	if n, err := w.controller.LiftHolds(t.Context(), model, batch.ID{}); n != 0 || err != nil {
		t.Errorf("%d holds are lifted without a bucket, %v", n, err)
	}
	if got := holds(); len(got) != 0 {
		t.Errorf("holds are %+v without a bucket", got)
	}
}
