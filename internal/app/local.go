package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/config"
	"fusillade/internal/embedded"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/migrations"
	"fusillade/streams"
)

// LocalConfig says how to run everything on one machine.
type LocalConfig struct {
	// DataDir keeps Postgres and the broker's files. One process at a time
	// may use it.
	DataDir string
	// NATSListen opens the broker's port, for the nats command line; empty: none.
	NATSListen string
	// NATSServers is how many NATS servers to start, each on a port of 127.0.0.1 and
	// with a copy of all streams in files; 0: one in this process, which keeps all in
	// memory.
	NATSServers int
	// Settings may name a Postgres to use instead of one of our own.
	Settings *config.Standalone
	// Waits has StartLocal wait for a Postgres that the settings name, and is told
	// what for; empty: for nothing any more. Nil: it does not wait.
	Waits func(what string)
	Log   *slog.Logger
}

// Local is a Postgres and a NATS server for this process alone.
type Local struct {
	Resources
	// Database says in words which Postgres it is.
	Database string
	// NATSURL is where the broker listens; empty: nowhere.
	NATSURL string
	// NATSExposed is whether other machines can reach it there.
	NATSExposed bool
	// Recovered is how many requests an earlier process left in the middle.
	Recovered int

	directURL string // past a pooler
	pg        *embedded.Postgres
	broker    interface{ Stop() error }
	unlock    func() error
	disown    func()
}

const stopTimeout = 30 * time.Second

// postgresDir is that of Postgres in a data directory.
const postgresDir = "postgres"

// localShards carry thousands of models with work at once in one broker.
const localShards = 8

// StartLocal locks the data directory, starts what is needed, migrates the
// database and recovers what an earlier process left behind. The caller must
// call Stop.
func StartLocal(ctx context.Context, cfg LocalConfig) (l *Local, err error) {
	l = &Local{Resources: Resources{Log: cfg.Log}}
	if l.unlock, err = embedded.LockDir(cfg.DataDir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Stop())
		}
	}()
	if l.Keyring, err = seal.New(cfg.Settings.Encryption.Key.All()...); err != nil {
		return l, err
	}
	if err = cfg.do(ctx, []step{{"Postgres", func(ctx context.Context) error { return l.openDatabase(ctx, cfg) }}}); err != nil {
		return l, err
	}
	if l.disown, err = l.Store.OwnDatabase(ctx, cfg.Settings.StaleDaemonThreshold.Duration()); err != nil {
		return l, err
	}
	if err = l.startBroker(cfg); err != nil {
		return l, err
	}
	// The broker begins empty, so that nothing need be moved between shards.
	l.Streams = streams.Config{InMemory: cfg.NATSServers == 0, Replicas: cfg.NATSServers, Shards: localShards, StaleDaemonThreshold: cfg.Settings.StaleDaemonThreshold.Duration()}
	if err = l.ensureStreams(ctx); err != nil {
		return l, err
	}
	l.Recovered, err = l.Store.Recover(ctx)
	return l, err
}

// OpenRunning opens the database that another process runs in its data directory,
// to work in it beside that process. It returns embedded.ErrInUse where the
// process has none that could be reached: it is starting, or stopping.
func OpenRunning(ctx context.Context, dataDir string) (*postgres.Store, error) {
	url, ok := embedded.AttachPostgres(filepath.Join(dataDir, postgresDir))
	if !ok {
		return nil, fmt.Errorf("%w: no database answers in %s yet, or any more; try again", embedded.ErrInUse, dataDir)
	}
	return postgres.Open(ctx, postgres.Config{URL: url, MaxConns: 2, ApplicationName: "fusillade-cli"})
}

// do makes the steps, and waits for them where that is asked for: not for a Postgres
// that this process starts.
func (cfg LocalConfig) do(ctx context.Context, steps []step) error {
	if cfg.Waits == nil || !cfg.Settings.Postgres.URL.IsSet() {
		return once(ctx, steps)
	}
	return starter{log: cfg.Log, timeout: cfg.Settings.Startup.Timeout.OrZero(), say: cfg.Waits, brief: true}.until(ctx, steps)
}

// openDatabase starts Postgres, or finds it, migrates it and opens it.
func (l *Local) openDatabase(ctx context.Context, cfg LocalConfig) (err error) {
	l.pg, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{
		URL: cfg.Settings.Postgres.URL.Reveal(), DataDir: filepath.Join(cfg.DataDir, "postgres"),
		CacheDir: filepath.Join(cfg.DataDir, "download"), Log: cfg.Log,
	})
	if err != nil {
		return err
	}
	l.Database = l.pg.Source()
	l.directURL = cmp.Or(cfg.Settings.Postgres.Direct(), l.pg.URL())
	if err = migrations.Up(ctx, l.directURL); err != nil {
		return err
	}
	l.Store, err = postgres.Open(ctx, postgres.Config{URL: l.pg.URL(), DirectURL: l.directURL, MaxConns: cfg.Settings.MaxConns, ApplicationName: "fusillade"})
	return err
}

// startBroker begins with an empty store, and what is put into it is kept in
// memory: Postgres knows all of it, and messages of a killed process would
// only wait out their leases.
func (l *Local) startBroker(cfg LocalConfig) (err error) {
	dir := filepath.Join(cfg.DataDir, "nats")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("emptying the broker's store: %w", err)
	}
	if cfg.NATSServers > 0 {
		return l.startServers(cfg, dir)
	}
	broker, err := embedded.StartNATS(embedded.NATSConfig{DataDir: dir, Listen: cfg.NATSListen, Log: cfg.Log})
	if err != nil {
		return err
	}
	l.broker = broker
	if cfg.NATSListen != "" {
		l.NATSURL, l.NATSExposed = broker.URL(), broker.Exposed()
	}
	if l.Conn, err = broker.Connect(ConnOptions("standalone", cfg.Log)...); err != nil {
		return fmt.Errorf("connecting to the embedded NATS server: %w", err)
	}
	return nil
}

func (l *Local) startServers(cfg LocalConfig, dir string) error {
	servers, err := embedded.StartNATSCluster(embedded.NATSConfig{DataDir: dir, Log: cfg.Log}, cfg.NATSServers)
	if err != nil {
		return err
	}
	l.broker = servers
	if l.Conn, err = nats.Connect(strings.Join(servers.URLs(), ","), ConnOptions("standalone", cfg.Log)...); err != nil {
		return fmt.Errorf("connecting to the embedded NATS servers: %w", err)
	}
	return nil
}

// DatabaseEnded is closed when our Postgres has ended by itself.
func (l *Local) DatabaseEnded() <-chan struct{} { return l.pg.Done() }

// OpenStore opens the database once more, for a part of the process that must not
// wait for the connections of others.
func (l *Local) OpenStore(ctx context.Context, name string, conns int) (*postgres.Store, error) {
	return postgres.Open(ctx, postgres.Config{URL: l.pg.URL(), DirectURL: l.directURL, MaxConns: conns, ApplicationName: name})
}

// Stop stops what was started and releases the data directory.
func (l *Local) Stop() error {
	if l.disown != nil {
		l.disown()
	}
	l.Resources.Close()
	var errs []error
	if l.broker != nil {
		errs = append(errs, l.broker.Stop())
	}
	if l.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		errs = append(errs, l.pg.Stop(ctx))
	}
	return errors.Join(append(errs, l.unlock())...)
}
