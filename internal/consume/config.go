package consume

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/tracing"
	"fusillade/internal/upstream"
	"fusillade/internal/watchdog"
	"fusillade/streams"
)

// store is where requests are started, looked up, finished and released. All
// calls may be repeated after an error, whether or not they took effect.
type store interface {
	Start(ctx context.Context, rules postgres.StartRules, deliveries []postgres.Delivery) ([]postgres.Start, error)
	RenewStarts(ctx context.Context, daemon batch.DaemonID, deliveries []postgres.Delivery) (map[batch.RequestID]bool, error)
	CheckLiveness(ctx context.Context, deliveries []postgres.Delivery) ([]postgres.Liveness, error)
	Finish(ctx context.Context, daemon batch.DaemonID, completions []postgres.Completion, releases []postgres.Release) (map[batch.RequestID]bool, error)
	ReleaseClaims(ctx context.Context, requests []postgres.ClaimedRequest, delay time.Duration) (int, error)
	DeadDaemons(ctx context.Context, ids []batch.DaemonID, stale time.Duration) (map[batch.DaemonID]bool, error)
}

// caller makes one call. It must return soon after its context ends.
type caller interface {
	Make(ctx context.Context, request *upstream.Request, out *upstream.Outcome)
}

// Config says what a Consumer works with.
type Config struct {
	Store  store
	Caller caller
	Conn   *nats.Conn
	Shards streams.Shards // of the models' messages
	Daemon batch.DaemonID
	// Resolve returns where a model's calls go. False: nowhere; its requests fail.
	Resolve func(batch.Model) (upstream.Target, bool)
	// BatchKey returns a batch's own API key for the requests of a generation.
	// batch.ErrNotFound: it has none any more. After any other error it may be had
	// later; the error's text is safe to store. Nil: never.
	BatchKey func(ctx context.Context, id batch.ID, generation int) (string, error)
	Retry    batch.RetryPolicy
	// MaxStreamBackoff is the longest backoff that a message waits out in the
	// stream; after a longer one the request is claimed anew. 0: 5 s.
	MaxStreamBackoff time.Duration
	// MaxHold is the longest that a Retry-After counts for; 0: 10 min.
	MaxHold time.Duration
	// HoldAfter is how many refused calls in a row have what refuses them held; 0:
	// none do. Probe and MaxProbe are the first and the longest pause between
	// probes of it; 0: 5 s and 1 min.
	HoldAfter       int
	Probe, MaxProbe time.Duration
	// Rates are the rate limits of credentials.
	Rates RateLimits
	// Lease is how long the broker waits before it gives a silent consumer's
	// message to another: the AckWait of the stream's consumers.
	Lease time.Duration
	// ProcessingTimeout is how long a request may be processing, since its start or
	// since Postgres was last told that parts of a streamed answer keep coming. A call
	// is cut off then, and the lease not renewed any more.
	ProcessingTimeout time.Duration
	// StaleThreshold is the age of a heartbeat from which its daemon is dead.
	StaleThreshold time.Duration
	// HeartbeatInterval is that of all daemons.
	HeartbeatInterval time.Duration
	// DrainTimeout is how long calls may go on once Run was told to stop.
	DrainTimeout time.Duration
	// CancelPoll is how often requests in flight are looked up in case the hint of
	// a cancel was lost; 0: 5 s.
	CancelPoll time.Duration
	// Lapsed reports whether the daemon's heartbeat is too old for a call to begin;
	// nil: it never is. It is asked before each call and must not wait.
	Lapsed func() bool
	// Watch is told of the progress of every loop; nil: nobody is.
	Watch *watchdog.Watchdog
	// MaxInFlight is the number of calls at once, of all models together.
	MaxInFlight int
	// MaxTakeovers is how many consumers a request may take down before it
	// fails as poisoned.
	MaxTakeovers int
	// StatusInterval is the pause between log lines about the calls in flight;
	// 0: no such lines.
	StatusInterval time.Duration
	// Tracer makes spans; nil: there are none.
	Tracer *tracing.Tracer
	// Metrics is where metrics are registered, of one consumer at a time; nil:
	// nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

func (c Config) validate() error {
	switch {
	case c.Store == nil || c.Caller == nil || c.Conn == nil || c.Resolve == nil || c.Log == nil:
		return errors.New("consume: Store, Caller, Conn, Resolve and Log are required")
	case c.Daemon == batch.DaemonID{}:
		return errors.New("consume: Daemon is required")
	case c.Lease <= 0 || c.ProcessingTimeout <= 0 || c.StaleThreshold <= 0 || c.HeartbeatInterval <= 0 || c.DrainTimeout < 0:
		return errors.New("consume: Lease, ProcessingTimeout, StaleThreshold and HeartbeatInterval must be positive")
	case c.MaxInFlight <= 0 || c.MaxTakeovers <= 0:
		return errors.New("consume: MaxInFlight and MaxTakeovers must be positive")
	}
	return nil
}
