package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/batch"
	"fusillade/internal/pgconnect"
)

// Config says where the database is and how it may be used.
type Config struct {
	// Pool is a program's own pool, which Close leaves open. Its sessions have the
	// program's settings, so each transaction brings ours along. Nil: one for URL.
	Pool *pgxpool.Pool
	// URL is a connection string as libpq reads it. It may lead through a pooler
	// that gives out sessions by the transaction, if DirectURL is set.
	URL string
	// DirectURL leads to the same database without a pooler, for what needs a
	// session of its own; empty: URL.
	DirectURL string
	// MaxConns is the size of the connection pool; 0: 8.
	MaxConns int
	// ApplicationName is shown in pg_stat_activity; empty: fusillade.
	ApplicationName string
	// Timeout bounds one statement or transaction; 0: 30 s.
	Timeout time.Duration
}

// Store is the database. It is safe for concurrent use. Its methods return
// the errors of package batch, or the driver's error wrapped; Classify
// tells which of those are worth a retry.
type Store struct {
	pool   *pgxpool.Pool
	shared bool            // the pool is a program's own
	db     database        // the pool, as statements use it
	direct *pgx.ConnConfig // of sessions of their own
	// before is called with a copy of direct; nil: it is as it is.
	before   func(context.Context, *pgx.ConnConfig) error
	primary  *primaryKeeper
	timeout  time.Duration
	slice    int        // sliceRequests, but in tests
	excluded [][16]byte // batches whose requests are not claimed; never nil, which is NULL in SQL
}

// Excluding returns the same store for a dispatcher that must leave the requests
// of some batches released. They can be cancelled, read and deleted as ever,
// and expire; a rerun of them is refused. Both are closed by closing one.
func (s *Store) Excluding(batches []batch.ID) *Store {
	without := *s
	without.excluded = make([][16]byte, len(batches))
	for i, id := range batches {
		without.excluded[i] = [16]byte(id)
	}
	return &without
}

// Open connects to the database. It does not migrate it. An error that is
// pgconnect.Unfit does not pass by waiting.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Pool != nil {
		return openShared(ctx, cfg)
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, pgconnect.ErrInvalidURL // the cause may quote the password
	}
	pc.MaxConns = int32(cmp.Or(cfg.MaxConns, 8))
	direct, err := pgconnect.Parse(cmp.Or(cfg.DirectURL, cfg.URL))
	if err != nil {
		return nil, err
	}
	pgconnect.Bound(pc.ConnConfig)
	primary, guard := &primaryKeeper{}, pgconnect.NewGuard()
	for _, c := range []*pgx.ConnConfig{pc.ConnConfig, direct} {
		c.RuntimeParams["application_name"] = cmp.Or(cfg.ApplicationName, "fusillade")
		primary.install(c)
		guard.Install(c)
	}
	server, err := inspect(ctx, pc.ConnConfig, direct, cfg.DirectURL != "" && cfg.DirectURL != cfg.URL)
	if err != nil {
		return nil, err
	}
	pgconnect.Pin(direct, true)
	if server.Pooled {
		pgconnect.PinPooled(pc.ConnConfig)
		if !strings.Contains(cfg.URL, "default_query_exec_mode") {
			// The statements that others prepare are those of another session.
			pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
	} else {
		pgconnect.Pin(pc.ConnConfig, true)
		pc.AfterConnect = pgconnect.AfterConnect
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	primary.pool.Store(pool)
	s := &Store{pool: pool, db: pool, direct: direct, primary: primary, timeout: cmp.Or(cfg.Timeout, 30*time.Second), slice: sliceRequests, excluded: [][16]byte{}}
	if server.Pooled {
		s.db = newPooled(pool, server.Major)
	}
	if err := s.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// inspect finds out what is behind a URL, and checks that sessions can be had.
func inspect(ctx context.Context, url, direct *pgx.ConnConfig, differ bool) (pgconnect.Server, error) {
	server, err := pgconnect.Inspect(ctx, direct)
	switch {
	case err != nil:
		return server, err
	case server.Pooled && differ:
		return server, pgconnect.ErrDirectPooler
	case server.Pooled:
		return server, pgconnect.ErrPooler
	case !differ:
		return server, nil
	}
	if server, err = pgconnect.Inspect(ctx, url); err != nil {
		return server, err
	}
	return server, pgconnect.SameDatabase(ctx, direct, url)
}

// session opens a connection of its own, for what lives and dies with it. The
// caller closes it.
func (s *Store) session(ctx context.Context) (*pgx.Conn, error) {
	direct := s.direct
	if s.before != nil {
		direct = direct.Copy()
		if err := s.before(ctx, direct); err != nil {
			return nil, err
		}
	}
	conn, err := pgx.ConnectConfig(ctx, direct)
	if err != nil {
		return nil, err
	}
	if err := pgconnect.AfterConnect(ctx, conn); err != nil {
		closeSession(ctx, conn)
		return nil, err
	}
	return conn, nil
}

func closeSession(ctx context.Context, conn *pgx.Conn) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(closing)
}

// Close waits for connections in use and closes the pool, unless it is a program's own.
func (s *Store) Close() {
	if !s.shared {
		s.pool.Close()
	}
}

// Ping checks that the database answers and takes writes, else it returns
// ErrReadOnly.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := checkWritable(ctx, s.db)
	if errors.Is(err, ErrReadOnly) {
		s.primary.reset()
	}
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	return nil
}

// WALBytes is the write-ahead log's current position, for measuring what a
// workload writes.
func (s *Store) WALBytes(ctx context.Context) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var n int64
	err := s.db.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("reading the WAL position: %w", err)
	}
	return n, nil
}

func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
}

// inTx runs f in a transaction.
func (s *Store) inTx(ctx context.Context, f func(context.Context, pgx.Tx) error) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error { return f(ctx, tx) })
}
