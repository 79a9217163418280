package upstream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fusillade/internal/batch"
)

// maxReplicas and maxFailed bound what is remembered: beyond it replicas
// without calls, and some of the failed attempts, are forgotten.
const maxReplicas, maxFailed = 4096, 8192

// balancer spreads the calls to endpoints that have several base URLs: each
// goes to the replica with the fewest calls in flight of this process.
//
//	         failuresToEject in a row            its time is over
//	in use ───────────────────────────▶ ejected ─────────────────▶ probed
//	  ▲  ▲                               ▲ │                         │ │
//	  │  └── a call begun before ends ───┼─┘                         │ │
//	  │      well                        └──── the probe fails ──────┘ │
//	  └─────────── the probe ends well, or goes on for a while ────────┘
//
// One call probes; all others go elsewhere meanwhile. When every replica is
// ejected there is nowhere else: calls go to all of them, and what they answer
// decides about their requests, as where there is one URL. Models have replicas
// of their own: a name that no endpoint knows ejects nothing of other models.
type balancer struct {
	log   *slog.Logger
	now   func() time.Time
	grace time.Duration // how long a probe takes at most to find out that nobody is there

	mu       sync.Mutex
	replicas map[replicaKey]*replica
	inFlight map[string]int             // calls of all models, by base URL
	failed   map[batch.RequestID]string // at which base URL a request's last attempt failed
	turn     int                        // of equal ones which is first
}

// chosen is a replica for one call.
type chosen struct {
	*replica
	probes bool
}

func newBalancer(log *slog.Logger, grace time.Duration) *balancer {
	return &balancer{
		log: log, now: time.Now, grace: grace,
		replicas: make(map[replicaKey]*replica), inFlight: make(map[string]int), failed: make(map[batch.RequestID]string),
	}
}

// pick chooses the replica for an attempt. done must be called with it.
func (b *balancer) pick(request *Request) chosen {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	avoid := b.failed[request.ID]
	b.turn++
	var best *replica
	bestRank, bestInFlight := 0, 0
	n := 1 + len(request.Options.More)
	for i := range n {
		r := b.replica(request, (i+b.turn)%n)
		rank, inFlight := r.rank(now, avoid, b.grace), b.inFlight[r.url]
		if best == nil || rank < bestRank || rank == bestRank && inFlight < bestInFlight {
			best, bestRank, bestInFlight = r, rank, inFlight
		}
	}
	to := chosen{best, !best.until.IsZero() && best.usable(now)}
	if to.probes {
		best.probe = now
	}
	best.calls++
	b.inFlight[best.url]++
	return to
}

// replica returns the one of the request's i-th base URL.
func (b *balancer) replica(request *Request, i int) *replica {
	key := replicaKey{request.Model, request.BaseURL}
	if i > 0 {
		key.url = request.Options.More[i-1]
	}
	r := b.replicas[key]
	if r == nil {
		if len(b.replicas) >= maxReplicas {
			for other, r := range b.replicas {
				if r.calls == 0 {
					delete(b.replicas, other)
				}
			}
		}
		r = &replica{replicaKey: key}
		b.replicas[key] = r
	}
	return r
}

// done takes the outcome of a call. A Retry-After is the replica's: as long as
// another one is in use the outcome has none, so that nothing waits for it.
func (b *balancer) done(to chosen, request *Request, o *Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, r := b.now(), to.replica
	r.calls--
	if b.inFlight[r.url]--; b.inFlight[r.url] == 0 {
		delete(b.inFlight, r.url)
	}
	if to.probes {
		r.probe = time.Time{}
	}
	switch healthOf(o, request.OwnKey) {
	case unknown:
		return
	case well:
		if r.failures = 0; r.asked && now.Before(r.until) {
			break // what began before does not count
		}
		if !r.until.IsZero() && !r.asked {
			b.note(slog.LevelInfo, "an endpoint's URL takes calls again", r, o)
		}
		r.until, r.asked, r.ejections = time.Time{}, false, 0
	case full:
		r.failures = 0
		if until := now.Add(min(o.RetryAfter, maxAside)); until.After(r.until) {
			r.until, r.asked = until, true
		}
		if o.RetryAfter = 0; b.earliest(request).After(now) {
			o.RetryAfter = b.earliest(request).Sub(now)
		}
	case ill:
		if r.failures++; to.probes || r.until.IsZero() && r.failures >= failuresToEject {
			r.eject(now)
			b.note(slog.LevelWarn, "an endpoint's URL fails; calls go to the others", r, o)
		}
	}
	b.remember(request.ID, r.url, o)
}

// remember keeps where an attempt failed, for the next one.
func (b *balancer) remember(id batch.RequestID, base string, o *Outcome) {
	if o.Reason == "" {
		delete(b.failed, id)
		return
	}
	for other := range b.failed {
		if len(b.failed) < maxFailed {
			break
		}
		delete(b.failed, other)
	}
	b.failed[id] = base
}

// earliest is when the first of the replicas is in use; zero: now.
func (b *balancer) earliest(request *Request) (earliest time.Time) {
	for i := range 1 + len(request.Options.More) {
		until := b.replica(request, i).until
		if until.IsZero() {
			return until
		}
		if i == 0 || until.Before(earliest) {
			earliest = until
		}
	}
	return earliest
}

func (b *balancer) note(level slog.Level, text string, r *replica, o *Outcome) {
	if b.log != nil {
		b.log.Log(context.Background(), level, text, "host", hostOf(r.url), "reason", o.Reason, "status", o.Response.StatusCode)
	}
}

// balanced makes a call to one of several base URLs.
func (c *Client) balanced(ctx context.Context, request *Request, out *Outcome) {
	to := c.balancer.pick(request)
	one := *request
	one.BaseURL = to.url
	c.call(ctx, &one, out)
	c.balancer.done(to, request, out)
}
