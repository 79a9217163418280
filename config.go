package fusillade

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"fusillade/internal/batch"
	"fusillade/internal/config"
)

// Role is what Run does.
type Role int

const (
	RoleAll        Role = iota // both, in one process
	RoleDispatcher             // publishes what is pending
	RoleConsumer               // calls the model endpoints
)

// Escalation routes requests to another model when little time is left.
type Escalation struct {
	Model  string
	Before time.Duration // their batch expires; whole seconds
}

// Response is an endpoint's answer, as ShouldRetry sees it.
type Response struct {
	StatusCode int
	Body       []byte // must not be changed or kept
}

// Config says what to work with and how. DefaultConfig fills in what has a default;
// a zero in its place means zero.
type Config struct {
	// DataDir keeps an embedded Postgres and an embedded NATS server. It is required
	// unless NATS and a database are set. One process at a time may use it.
	DataDir string
	// Pool is the program's own pool of connections to a Postgres, in which Fusillade
	// has its own tables. It stays open. Ten connections beside those of the program
	// are a good size. Sessions for leading, listening and migrating are opened as the
	// pool opens its own, or by DatabaseDirectURL.
	Pool *pgxpool.Pool
	// DatabaseURL is used in its place for connections of Fusillade's own, such as
	// postgres://user@host/database, read as libpq does, its variables included.
	// DatabaseDirectURL leads to the same database past a pooler such as pgbouncer, if
	// there is one between.
	DatabaseURL       string
	DatabaseDirectURL string
	MaxConns          int // to DatabaseURL; default 10
	// NATS is the program's own connection to a server with JetStream. It stays open.
	NATS           *nats.Conn
	StreamReplicas int // of each stream; default 1

	// Upstream is the model endpoint, such as https://api.example.com/v1, and
	// UpstreamKey its API key. ModelUpstreams are endpoints of single models.
	Upstream       string
	UpstreamKey    string
	ModelUpstreams map[string]string

	// ModelPrices are what a million tokens of a model cost, of prompts and of
	// completions, such as 2.50/10; * and ? in a name stand for other characters.
	// Budgets in money are counted by them.
	ModelPrices map[string]string

	Role   Role
	Owner  string       // of the batches that are submitted; default local
	Logger *slog.Logger // default: nothing is logged
	// TracerProvider makes the spans of OpenTelemetry; nil: there are none. The program
	// keeps it, and shuts it down after Close.
	TracerProvider trace.TracerProvider
	// Metrics is where the metrics of docs/operations.md are registered, of one
	// Fusillade: prometheus.WrapRegistererWith keeps several apart. Nil: nowhere.
	Metrics prometheus.Registerer
	// Transport makes the calls to endpoints, from many goroutines. Its own pool of
	// connections should have room for MaxInFlight. Nil: one that is made for long
	// calls, many at once, and uses no proxy.
	Transport http.RoundTripper

	// OnResult is called with the result of each call that this process has made, once
	// it is stored. It needs a Role that consumes. It is called at least once: a process
	// that ends before the callback has returned leaves it to the next one with an
	// OnResult on the same database, at its start or when this one is taken for dead
	// (StaleDaemonThreshold). After an error or a panic it is called again, after a
	// second at first and ten minutes at last, until it returns nil. A call has a
	// minute; it must return when its context ends. Results of requests that were
	// canceled or expired without a call have no callback.
	OnResult func(context.Context, Result) error
	// OnResultConcurrency is how many calls of OnResult are made at once; default 16.
	// While 256 MiB of results, or 16,384, wait for it, no call to an endpoint begins.
	OnResultConcurrency int
	// OnResultTx is called in the transaction that writes results, with those: what it
	// does in the transaction takes effect exactly once. It must not end the
	// transaction, nor use this Fusillade. While it runs, other results of the same
	// batches wait. After ten seconds, an error or a panic its statements are rolled
	// back, the results are stored without them, and it is called again of each by
	// itself, in a transaction of its own, as often as OnResult. It may be called from
	// several goroutines.
	OnResultTx func(context.Context, pgx.Tx, []Result) error

	// MaxInFlight bounds the calls in flight in this process; default 1,000.
	MaxInFlight int
	// DrainTimeout is what calls in flight have when Run is told to end; default 30 s.
	DrainTimeout time.Duration

	// What follows is the DaemonConfig of the Rust library of the same name, with its
	// defaults. All processes on one database should agree on it.

	ClaimBatchSize          int                   // requests claimed in one iteration; default 100
	DefaultModelConcurrency int                   // calls in flight to a model, in the whole cluster; default 10
	ModelConcurrencyLimits  map[string]int        // of single models; SetModelConcurrency changes them
	ModelEscalations        map[string]Escalation // by model; SetModelEscalation changes them
	ClaimInterval           time.Duration         // between claims when nothing wakes the dispatcher; default 1 s
	MaxRetries              *int                  // of a request; nil: no bound; default 1,000
	// StopBeforeDeadline is how long before its batch expires a request is not
	// retried any more; negative: after; nil: it makes no difference. Default 0.
	StopBeforeDeadline *time.Duration
	Backoff            time.Duration  // before the first retry; default 1 s
	BackoffFactor      int            // for each further one; default 2
	MaxBackoff         time.Duration  // default 10 s
	Timeout            time.Duration  // of a call; default 10 min
	StatusLogInterval  *time.Duration // nil: never; default 2 s
	HeartbeatInterval  time.Duration  // default 5 s
	// ShouldRetry says which answers are worth another call, whatever their status.
	// X-Should-Retry of an error goes before it. It is called from many goroutines.
	// Nil: those with status 5xx, 429, 408 and 404.
	ShouldRetry              func(Response) bool
	ClaimTimeout             time.Duration // until a claimed request that was not started is pending again; default 1 min
	ProcessingTimeout        time.Duration // until one that is called is; default 0: Timeout and a minute
	StaleDaemonThreshold     time.Duration // without a heartbeat a process is dead; default 30 s
	ReclaimBatchSize         int           // requests taken back in one cycle; default 100
	CancellationPollInterval time.Duration // default 5 s
	BatchMetadataFields      []string      // sent as x-fusillade-batch-… headers; default id, endpoint, created_at, completion_window
	PurgeInterval            time.Duration // between removals of what was deleted; 0: never; default 1 h
	PurgeBatchSize           int           // rows of one delete; default 1,000
	PurgeThrottle            time.Duration // between deletes; default 100 ms
}

// DefaultConfig is a Config to start from.
func DefaultConfig() Config {
	var s config.Standalone
	if err := config.SetDefaults(&s); err != nil {
		panic("fusillade: a default is out of range: " + err.Error()) // a test asks that none is
	}
	return Config{
		MaxConns: s.MaxConns, StreamReplicas: s.StreamReplicas, OnResultConcurrency: 16, MaxInFlight: s.MaxInFlight, DrainTimeout: s.DrainTimeout.Duration(),
		ClaimBatchSize: s.ClaimBatchSize, DefaultModelConcurrency: int(s.DefaultModelConcurrency), ClaimInterval: s.ClaimInterval.Duration(),
		MaxRetries: s.MaxRetries.Pointer(), StopBeforeDeadline: s.StopBeforeDeadline.Pointer(),
		Backoff: s.Backoff.Duration(), BackoffFactor: s.BackoffFactor, MaxBackoff: s.MaxBackoff.Duration(), Timeout: s.Timeout.Duration(),
		StatusLogInterval: s.StatusLogInterval.Pointer(), HeartbeatInterval: s.HeartbeatInterval.Duration(),
		ClaimTimeout: s.ClaimTimeout.Duration(), StaleDaemonThreshold: s.StaleDaemonThreshold.Duration(), ReclaimBatchSize: s.ReclaimBatchSize,
		CancellationPollInterval: s.CancellationPollInterval.Duration(), BatchMetadataFields: s.BatchMetadataFields,
		PurgeInterval: s.PurgeInterval.Duration(), PurgeBatchSize: s.PurgeBatchSize, PurgeThrottle: s.PurgeThrottle.Duration(),
	}
}

// check says what cannot go together.
func (c Config) check() error {
	ownDatabase := c.DatabaseURL != "" || c.Pool != nil
	switch {
	case c.DatabaseURL != "" && c.Pool != nil:
		return errors.New("Pool and DatabaseURL exclude each other: Pool is enough")
	case (c.NATS == nil) == ownDatabase:
		return errors.New("NATS goes together with Pool or DatabaseURL: both are the program's own, or neither, with DataDir")
	case c.NATS == nil && c.DataDir == "":
		return errors.New("DataDir is required, or NATS with Pool or DatabaseURL")
	case c.OnResult != nil && c.OnResultConcurrency < 1:
		return errors.New("OnResultConcurrency must be at least 1")
	case (c.OnResult != nil || c.OnResultTx != nil) && c.Role == RoleDispatcher:
		return errors.New("OnResult and OnResultTx are called by consumers, and RoleDispatcher is none")
	}
	return nil
}

// settings are those of the configuration, checked as those of the environment are.
func (c Config) settings() (*config.Standalone, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := new(config.Standalone)
	if err := config.SetDefaults(s); err != nil {
		return nil, err
	}
	var problems []error
	set := func(field string, setter interface{ Set(string) error }, text string) {
		if err := setter.Set(text); err != nil {
			problems = append(problems, fmt.Errorf("%s %w", field, err))
		}
	}
	if c.DatabaseURL != "" {
		set("DatabaseURL", &s.Postgres.URL, c.DatabaseURL)
	}
	if c.DatabaseDirectURL != "" {
		set("DatabaseDirectURL", &s.Postgres.DirectURL, c.DatabaseDirectURL)
	}
	set("Upstream", &s.Upstream.Proxy, "none") // the environment is the program's
	if c.Upstream != "" {
		set("Upstream", &s.Upstream.URL, c.Upstream)
	}
	if c.UpstreamKey != "" {
		set("UpstreamKey", &s.Upstream.APIKey, c.UpstreamKey)
	}
	if len(c.ModelUpstreams) > 0 {
		set("ModelUpstreams", &s.Upstream.Models, asJSON(c.ModelUpstreams))
	}
	if len(c.ModelPrices) > 0 {
		set("ModelPrices", &s.ModelPrices, asJSON(c.ModelPrices))
	}
	set("BatchMetadataFields", &s.BatchMetadataFields, strings.Join(c.BatchMetadataFields, ","))
	c.numbers(s)
	return s, errors.Join(append(problems, config.Validate(s))...)
}

func (c Config) numbers(s *config.Standalone) {
	s.MaxConns, s.StreamReplicas, s.MaxInFlight, s.DrainTimeout = c.MaxConns, c.StreamReplicas, c.MaxInFlight, config.Milliseconds(c.DrainTimeout)
	s.ClaimBatchSize, s.DefaultModelConcurrency, s.ClaimInterval = c.ClaimBatchSize, batch.Limit(c.DefaultModelConcurrency), config.Milliseconds(c.ClaimInterval)
	s.ModelConcurrencyLimits, s.ModelEscalations = config.ModelLimits{}, config.ModelEscalations{}
	for model, limit := range c.ModelConcurrencyLimits {
		s.ModelConcurrencyLimits[batch.Model(model)] = batch.Limit(limit)
	}
	for model, e := range c.ModelEscalations {
		s.ModelEscalations[batch.Model(model)] = config.Escalation{Model: batch.Model(e.Model), Threshold: e.Before}
	}
	s.MaxRetries = config.OptionalInt{None: c.MaxRetries == nil}
	if c.MaxRetries != nil {
		s.MaxRetries.Value = *c.MaxRetries
	}
	s.StopBeforeDeadline, s.StatusLogInterval = optional(c.StopBeforeDeadline), optional(c.StatusLogInterval)
	s.Backoff, s.BackoffFactor, s.MaxBackoff = config.Milliseconds(c.Backoff), c.BackoffFactor, config.Milliseconds(c.MaxBackoff)
	s.Timeout, s.FirstTokenTimeout, s.StreamedTimeout = config.Milliseconds(c.Timeout), 0, 0
	s.HeartbeatInterval, s.StaleDaemonThreshold = config.Milliseconds(c.HeartbeatInterval), config.Milliseconds(c.StaleDaemonThreshold)
	s.ClaimTimeout, s.ProcessingTimeout, s.ReclaimBatchSize = config.Milliseconds(c.ClaimTimeout), config.Milliseconds(c.ProcessingTimeout), c.ReclaimBatchSize
	s.CancellationPollInterval = config.Milliseconds(c.CancellationPollInterval)
	s.PurgeInterval, s.PurgeBatchSize, s.PurgeThrottle = config.Milliseconds(c.PurgeInterval), c.PurgeBatchSize, config.Milliseconds(c.PurgeThrottle)
}

func optional(d *time.Duration) config.OptionalMilliseconds {
	if d == nil {
		return config.OptionalMilliseconds{None: true}
	}
	return config.OptionalMilliseconds{Value: config.Milliseconds(*d)}
}
