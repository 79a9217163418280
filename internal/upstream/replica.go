package upstream

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/batch"
)

const (
	// failuresToEject is how many calls in a row must fail for a replica to be
	// ejected.
	failuresToEject = 3
	// A replica is ejected for minEjection at first, and each time that its probe
	// fails for twice as long, until maxEjection.
	minEjection, maxEjection = time.Second, 30 * time.Second
	// maxAside is the longest that a replica is left alone for its Retry-After.
	maxAside = time.Minute
	// probeGrace, beside the time to connect, is how long a probe must go on for
	// other calls to follow: an answer may take minutes.
	probeGrace = 5 * time.Second
)

// Replica is one of several base URLs of an endpoint, as this process sees it.
type Replica struct {
	Host      string // with the port, if the URL has one
	InFlight  int
	Ejected   bool  // no calls go there, but for a probe
	Ejections int64 // until now
}

type replicaKey struct{ model, url string }

// replica belongs to the balancer's mu.
type replica struct {
	replicaKey
	calls     int       // in flight
	failures  int       // in a row
	until     time.Time // ejected until then; zero: in use
	asked     bool      // it asked for that, with Retry-After
	ejections int       // in a row
	probe     time.Time // when the call in flight that probes it began; zero: none does
	total     int64     // ejections in all
}

// The order in which replicas are chosen.
const (
	waitsForProbe = iota
	inUse
	failedBefore // in use, but the request's last attempt failed there
	ejected
)

func (r *replica) rank(now time.Time, avoid string, grace time.Duration) int {
	if !r.probe.IsZero() && now.Sub(r.probe) > grace {
		// The call goes on: somebody is there. The next failure ejects it again.
		r.until, r.probe, r.failures = time.Time{}, time.Time{}, failuresToEject-1
	}
	switch {
	case !r.usable(now):
		return ejected
	case r.url == avoid:
		return failedBefore
	case r.until.IsZero():
		return inUse
	}
	return waitsForProbe
}

// usable reports whether a call may go to the replica: it is in use, or waits for
// its probe.
func (r *replica) usable(now time.Time) bool {
	return r.until.IsZero() || r.probe.IsZero() && !now.Before(r.until)
}

func (r *replica) eject(now time.Time) {
	pause := min(minEjection<<min(r.ejections, 16), maxEjection)
	r.until, r.asked, r.failures = now.Add(backoff.Jitter(pause)), false, 0
	r.ejections++
	r.total++
}

// health is what a call's outcome says of the replica.
type health int

const (
	unknown health = iota // nothing
	well                  // it answers
	ill                   // it gives no answer, or none that anybody has use for
	full                  // it asked to be left alone for a while
)

func healthOf(o *Outcome, ownKey bool) health {
	status := o.Response.StatusCode
	switch {
	case ownKey && o.Refusal != nil && status != 0 && status != http.StatusNotFound:
		return unknown // the key is refused, and is one batch's
	case o.Reason == batch.TaskTerminated, o.Reason == batch.LocalError, o.Reason == batch.BuilderError:
		return unknown
	case o.RetryAfter > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == statusOverloaded):
		return full
	case o.Refusal != nil, status == 0, status >= http.StatusInternalServerError, o.Reason == batch.Redirected, o.Reason == batch.NoAnswer, o.Reason == batch.MalformedAnswer:
		return ill
	}
	return well
}

// statusOverloaded is what some endpoints answer where others answer 503.
const statusOverloaded = 529

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Host
}

// Replicas are the base URLs of endpoints that have several, by host; those of
// one host together.
func (c *Client) Replicas() []Replica {
	b := c.balancer
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	byHost := make(map[string]Replica)
	for key, r := range b.replicas {
		host := hostOf(key.url)
		all := byHost[host]
		all.Host = host
		all.InFlight += r.calls
		all.Ejections += r.total
		all.Ejected = all.Ejected || !r.until.IsZero() && !r.usable(now)
		byHost[host] = all
	}
	return slices.SortedFunc(maps.Values(byHost), func(a, b Replica) int { return strings.Compare(a.Host, b.Host) })
}
