package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/batch"
)

// Config says where the database is and how it may be used.
type Config struct {
	// URL is a connection string as libpq reads it.
	URL string
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
	pool     *pgxpool.Pool
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

// plannerSettings nail the plans down: every statement here walks an index
// from a few rows given as arrays, and must never be planned otherwise because
// statistics are young or `requests` was empty when they were taken.
var plannerSettings = map[string]string{
	"enable_seqscan":    "off",
	"enable_bitmapscan": "off",
	"enable_hashjoin":   "off",
	"enable_mergejoin":  "off",
	"jit":               "off",
	"plan_cache_mode":   "force_generic_plan",
}

// Open connects to the database. It does not migrate it.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, errors.New("database URL cannot be parsed") // the cause may quote the password
	}
	pc.MaxConns = int32(cmp.Or(cfg.MaxConns, 8))
	pc.ConnConfig.RuntimeParams["application_name"] = cmp.Or(cfg.ApplicationName, "fusillade")
	pc.ConnConfig.ConnectTimeout = 10 * time.Second
	for name, value := range plannerSettings {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	primary := &primaryKeeper{}
	primary.install(pc)
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connecting to the database: %w", err)
	}
	primary.pool.Store(pool)
	s := &Store{pool: pool, primary: primary, timeout: cmp.Or(cfg.Timeout, 30*time.Second), slice: sliceRequests, excluded: [][16]byte{}}
	if err := s.Ping(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// Close waits for connections in use and closes the pool.
func (s *Store) Close() { s.pool.Close() }

// Ping checks that the database answers and takes writes, else it returns
// ErrReadOnly.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	err := checkWritable(ctx, s.pool)
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
	err := s.pool.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&n)
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
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return f(ctx, tx) })
}
