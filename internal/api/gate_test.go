package api

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// An owner who takes all they can leaves a place for others; a client that waits
// too long is told to come back, and nothing of them is kept.
func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(4, 9, false, time.Second)
		var leaves []func()
		enter := func(owner string) {
			t.Helper()
			leave, err := g.enter(t.Context(), owner)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		for range 3 {
			enter("alice")
		}
		began := time.Now()
		_, err := g.enter(t.Context(), "alice")
		var refused *apiError
		if !errors.As(err, &refused) || refused.status != http.StatusTooManyRequests || time.Since(began) != gateWait {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		enter("bob")
		ctx, leaveEarly := context.WithCancel(t.Context())
		leaveEarly()
		if _, err := g.enter(ctx, "carol"); !errors.Is(err, errGone) {
			t.Errorf("error %v", err)
		}
		for _, leave := range leaves {
			leave()
		}
		if len(g.owners) > 0 || len(g.places) > 0 {
			t.Errorf("%d owners and %d places are left", len(g.owners), len(g.places))
		}
	})
}

// Where there is one owner, they have every place; where there is one place,
// each owner can have it.
func TestGateOfOne(t *testing.T) {
	t.Parallel()
	if got := newGate(4, 2, true, 0).perOwner; got != 4 {
		t.Errorf("the only owner has %d of 4", got)
	}
	if got := newGate(1, 2, false, 0).perOwner; got != 1 {
		t.Errorf("an owner has %d of 1", got)
	}
}
