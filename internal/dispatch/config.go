package dispatch

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
	"fusillade/internal/watchdog"
	"fusillade/streams"
)

// Config says what a Dispatcher works with.
type Config struct {
	Store *postgres.Store
	Conn  *nats.Conn
	// Daemon is the daemon whose part this dispatcher is. It finishes requests
	// that the broker refuses for ever; the zero value leaves them to expire.
	Daemon batch.DaemonID
	// Streams are re-created as described here should the broker lose them.
	Streams streams.Config
	// ClaimBatchSize is the most requests claimed in one statement.
	ClaimBatchSize int
	// ClaimInterval is how often to look for work that no hint told of.
	ClaimInterval time.Duration
	// DefaultLimit and Limits are the concurrency limits of models for which
	// operators have set none.
	DefaultLimit batch.Limit
	Limits       map[batch.Model]batch.Limit
	// Escalations are those of models about which operators have decided
	// nothing.
	Escalations map[batch.Model]batch.Escalation
	// DefaultRate and Rates are the rate limits of models for which operators have
	// set none.
	DefaultRate batch.RateLimit
	Rates       map[batch.Model]batch.RateLimit
	// MaxHold is the longest that a credential is held; 0: 10 min.
	MaxHold time.Duration
	// MaxProbe is the longest pause between probes of what is refused; 0: 1 min.
	MaxProbe time.Duration
	// Lease is the AckWait of the stream's consumers.
	Lease time.Duration
	// ClaimTimeout and the two after it say when a request is looked after:
	// claimed without a start, processing for too long, or processing by a
	// daemon whose heartbeat is older than StaleThreshold.
	ClaimTimeout      time.Duration
	ProcessingTimeout time.Duration
	StaleThreshold    time.Duration
	// Watch is told of the progress of every loop; nil: nobody is.
	Watch *watchdog.Watchdog
	// ReclaimBatchSize is the most requests of dead daemons, or without a
	// message, that one statement takes back; 0: 100.
	ReclaimBatchSize int
	// ModelIdle is how long a model may have no work before all that it costs is
	// retired; 0: for ever.
	ModelIdle time.Duration
	// ExpiryInterval is how often the leader looks for batches whose deadline
	// has passed; 0: never.
	ExpiryInterval time.Duration
	// StopBeforeDeadline, if negative, is how long after its deadline a batch
	// goes on; nil: batches do not expire.
	StopBeforeDeadline *time.Duration
	// Purge says how the leader removes what was deleted or has expired.
	Purge Purge
	// Background is what else the leader does beside its sweeps. Each is called when
	// it begins to lead, and returns when its context ends.
	Background []func(context.Context)
	// MetadataFields are the columns or metadata keys of a batch that are sent
	// with each of its requests.
	MetadataFields []string
	// Tracer makes spans; nil: there are none.
	Tracer *tracing.Tracer
	// Metrics is where metrics are registered, of one dispatcher at a time; nil:
	// nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Purge says how fast deleted rows are removed.
type Purge struct {
	Interval time.Duration // between two purges; 0: there are none
	Rows     int           // the most that one delete removes
	Pause    time.Duration // between two deletes at most; the time of a few deletes is enough
}

func (c Config) validate() error {
	switch {
	case c.Store == nil || c.Conn == nil || c.Log == nil:
		return errors.New("dispatch: Store, Conn and Log are required")
	case c.ClaimBatchSize <= 0 || c.DefaultLimit == 0:
		return errors.New("dispatch: ClaimBatchSize and DefaultLimit must be positive")
	case c.Purge.Interval > 0 && c.Purge.Rows <= 0:
		return errors.New("dispatch: Purge.Rows must be positive")
	case c.ClaimInterval <= 0 || c.Lease <= 0 || c.ClaimTimeout <= 0 || c.ProcessingTimeout <= 0 || c.StaleThreshold <= 0:
		return errors.New("dispatch: ClaimInterval, Lease, ClaimTimeout, ProcessingTimeout and StaleThreshold must be positive")
	}
	return nil
}
