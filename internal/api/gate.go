package api

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// gateWait is how long a request waits to be let in.
const gateWait = 20 * time.Second

// gate bounds what goes on at once, in all and for each owner, so that nobody
// can keep the others out by being slow.
type gate struct {
	places     chan struct{}
	perOwner   int
	retryAfter time.Duration

	mu     sync.Mutex
	owners map[string]*ownerPlaces // that have a place or wait for one
}

type ownerPlaces struct {
	places chan struct{}
	users  int // of this value; guarded by gate.mu
}

// newGate returns a gate of n places, of which an owner has at most perOwner.
// Where there are several owners, one place is always left for the others.
func newGate(n, perOwner int, oneOwner bool, retryAfter time.Duration) *gate {
	if perOwner = min(perOwner, max(n-1, 1)); oneOwner {
		perOwner = n
	}
	return &gate{places: make(chan struct{}, n), perOwner: perOwner, retryAfter: retryAfter, owners: make(map[string]*ownerPlaces)}
}

// enter takes a place, which leave frees. It waits for one, but not for long:
// then the client is told to come back. While an owner waits for their own
// share, they keep no place from others.
func (g *gate) enter(ctx context.Context, owner string) (leave func(), err error) {
	timeout := time.NewTimer(gateWait)
	defer timeout.Stop()
	own := g.of(owner)
	for taken, places := range []chan struct{}{own.places, g.places} {
		select {
		case places <- struct{}{}:
			continue
		case <-ctx.Done():
			err = errGone
		case <-timeout.C:
			err = g.busy()
		}
		if taken == 1 {
			<-own.places
		}
		g.done(owner)
		return nil, err
	}
	return func() {
		<-g.places
		<-own.places
		g.done(owner)
	}, nil
}

func (g *gate) busy() error {
	return &apiError{status: http.StatusTooManyRequests, kind: rateLimit, code: "busy",
		message: "Too many transfers are going on. Please try again.", retryAfter: g.retryAfter}
}

func (g *gate) of(owner string) *ownerPlaces {
	g.mu.Lock()
	defer g.mu.Unlock()
	own := g.owners[owner]
	if own == nil {
		own = &ownerPlaces{places: make(chan struct{}, g.perOwner)}
		g.owners[owner] = own
	}
	own.users++
	return own
}

func (g *gate) done(owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	own := g.owners[owner]
	if own.users--; own.users == 0 {
		delete(g.owners, owner)
	}
}
