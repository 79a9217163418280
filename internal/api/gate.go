package api

import (
	"context"
	"net/http"
	"time"
)

// gateWait is how long a request waits to be let in.
const gateWait = 20 * time.Second

// gate bounds what goes on at once.
type gate struct {
	places     chan struct{}
	retryAfter time.Duration
}

func newGate(n int, retryAfter time.Duration) gate {
	return gate{places: make(chan struct{}, n), retryAfter: retryAfter}
}

// enter takes a place, which leave frees. It waits for one, but not for long:
// then the client is told to come back.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	timeout := time.NewTimer(gateWait)
	defer timeout.Stop()
	select {
	case g.places <- struct{}{}:
		return func() { <-g.places }, nil
	case <-ctx.Done():
		return nil, errGone
	case <-timeout.C:
		return nil, &apiError{status: http.StatusTooManyRequests, kind: rateLimit, code: "busy",
			message: "Too many transfers are going on. Please try again.", retryAfter: g.retryAfter}
	}
}
