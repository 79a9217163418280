package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/callback"
	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/pgconnect"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/tracing"
	"fusillade/internal/upstream"
	"fusillade/migrations"
	"fusillade/streams"
)

// Resources are the connections that a daemon works with.
type Resources struct {
	Store *postgres.Store
	Conn  *nats.Conn
	// Streams describes the broker's stream and buckets.
	Streams streams.Config
	// Keyring encrypts and decrypts secrets; nil: there is no encryption key.
	Keyring *seal.Keyring
	Log     *slog.Logger
	// door is where the API listens from the start of the process; nil: nowhere yet.
	door *door
	// ShouldRetry says which answers are worth another call; nil: as the settings say.
	ShouldRetry func(upstream.Response) bool
	// Transport makes calls to endpoints; nil: one of our own.
	Transport http.RoundTripper
	// Callbacks are whom consumers call of results; zero: nobody.
	Callbacks callback.Program
	// Tracer makes spans; nil: there are none.
	Tracer *tracing.Tracer
	// Telemetry and AdminAddr are set by ServeAdmin.
	Telemetry *Telemetry
	AdminAddr string
}

// Close closes the connections.
func (r Resources) Close() {
	if r.Conn != nil {
		r.Conn.Close()
	}
	if r.Store == nil {
		return
	}
	closed := make(chan struct{})
	go func() { // ends with the process if work that was given up holds a connection
		defer close(closed)
		r.Store.Close()
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		r.Log.Error("connections to the database could not be closed")
	}
}

// closeTimeout is how long Close waits for connections in use.
const closeTimeout = 10 * time.Second

const connectTimeout = 15 * time.Second

// Connect connects to the Postgres and NATS of a cluster, checks that the
// database is migrated, and makes sure of the stream and the buckets. It waits for
// nothing. The caller closes what it returns.
func Connect(ctx context.Context, role string, p *config.Process, d *config.Daemon, log *slog.Logger) (Resources, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	return connect(role, p, d, log, func(steps []step) error { return once(ctx, steps) })
}

// Open is Connect for what leaves the streams and the buckets alone, as commands do.
func Open(ctx context.Context, role string, p *config.Process, log *slog.Logger) (Resources, error) {
	return Connect(ctx, role, p, nil, log)
}

// connect makes the steps of a process's start, in the way that do says. A process
// that is no daemon leaves the streams alone.
func connect(role string, p *config.Process, d *config.Daemon, log *slog.Logger, do func([]step) error) (r Resources, err error) {
	r.Log = log
	r.Streams = streamsConfig(p.NATS)
	if r.Keyring, err = seal.New(p.Encryption.Key.All()...); err != nil {
		return r, err
	}
	steps := []step{
		bounded("Postgres", func(ctx context.Context) (err error) {
			if err := checkMigrated(ctx, &p.Postgres, log); err != nil {
				return err
			}
			r.Store, err = openStore(ctx, p.Postgres, role)
			return err
		}),
		bounded("NATS", func(context.Context) (err error) {
			r.Conn, err = dial(p.NATS, role, log)
			return err
		}),
	}
	if d != nil {
		r.Streams.StaleDaemonThreshold = d.StaleDaemonThreshold.Duration()
		steps = append(steps, bounded("the streams of NATS", func(ctx context.Context) error { return r.ensureStreams(ctx) }))
	}
	if err = do(steps); err != nil {
		r.Close()
	}
	return r, err
}

func streamsConfig(n config.NATS) streams.Config {
	return streams.Config{Replicas: n.StreamReplicas, PlacementTags: n.PlacementTags, Shards: streams.Shards(n.StreamShards)}
}

func openStore(ctx context.Context, p config.Postgres, role string) (*postgres.Store, error) {
	return postgres.Open(ctx, postgres.Config{
		URL: p.URL.Reveal(), DirectURL: p.Direct(), MaxConns: p.MaxConns, ApplicationName: "fusillade-" + role,
	})
}

func (r Resources) ensureStreams(ctx context.Context) error {
	js, err := jetstream.New(r.Conn)
	if err != nil {
		return fmt.Errorf("connecting to JetStream: %w", err)
	}
	return streams.Ensure(ctx, js, r.Streams)
}

// ErrNotMigrated is returned when the database lacks migrations that this
// program needs.
var ErrNotMigrated = errors.New("the database is not migrated: run `fusillade migrate up`")

func checkMigrated(ctx context.Context, database *config.Postgres, log *slog.Logger) error {
	schema, err := migrations.Compare(ctx, database.Direct())
	if errors.Is(err, pgconnect.ErrPooler) && database.DirectURL.IsSet() {
		return pgconnect.ErrDirectPooler
	}
	if err != nil {
		return err
	}
	if len(schema.Missing) > 0 {
		return fmt.Errorf("%w (%s is missing)", ErrNotMigrated, schema.Missing[0])
	}
	if schema.Newer > 0 {
		log.Warn("the database has migrations of a newer release, with which this one works for a while: upgrade this program", "migration", schema.Newer, "version", daemon.Version)
	}
	return nil
}

func dial(cfg config.NATS, role string, log *slog.Logger) (*nats.Conn, error) {
	opts := ConnOptions(role, log)
	if cfg.Creds != "" {
		opts = append(opts, nats.UserCredentials(string(cfg.Creds)))
	}
	if cfg.NKey != "" {
		opt, err := nats.NkeyOptionFromSeed(string(cfg.NKey))
		if err != nil {
			return nil, fmt.Errorf("FUSILLADE_NATS_NKEY: %w: %w", errUnusable, err)
		}
		opts = append(opts, opt)
	}
	if cfg.Cert != "" {
		opts = append(opts, nats.ClientCert(string(cfg.Cert), string(cfg.Key)))
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(string(cfg.CA)))
	}
	conn, err := nats.Connect(cfg.URL.Reveal(), opts...)
	if err != nil {
		return nil, fmt.Errorf("connecting to NATS at %s: %w", cfg.URL, err)
	}
	return conn, nil
}

// ConnOptions are how a daemon connects to NATS: it never gives up, and says
// when it lost and found its server.
func ConnOptions(role string, log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name("fusillade-" + role + "@" + daemon.Version),
		// Of each role's own, so that permissions can keep a role from reading
		// what is answered to the others.
		nats.CustomInboxPrefix("_INBOX." + role),
		nats.Timeout(connectTimeout / 3),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(10 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("connection to NATS was lost", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("connection to NATS is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("nats", "err", err) }),
	}
}
