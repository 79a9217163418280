package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/pgconnect"
)

// minSharedConns is how many connections a program's own pool has at least: flushes
// of starts and results, the claim, and the heartbeat, without which all of it ends.
const minSharedConns = 6

// openShared opens the database of a program's own pool. Sessions of their own are
// opened as the pool opens its connections.
func openShared(ctx context.Context, cfg Config) (*Store, error) {
	pc := cfg.Pool.Config()
	if pc.MaxConns < minSharedConns {
		return nil, fmt.Errorf("the pool has %d connections at most: at least %d are needed (pool_max_conns)", pc.MaxConns, minSharedConns)
	}
	direct, before := pc.ConnConfig, pc.BeforeConnect
	if cfg.DirectURL != "" {
		var err error
		if direct, err = pgconnect.Parse(cfg.DirectURL); err != nil {
			return nil, err
		}
		before = nil
	}
	s := &Store{
		pool: cfg.Pool, shared: true, direct: direct, before: before, primary: &primaryKeeper{},
		timeout: cmp.Or(cfg.Timeout, 30*time.Second), slice: sliceRequests, excluded: [][16]byte{},
	}
	pgconnect.Bound(direct)
	direct.RuntimeParams["application_name"] = cmp.Or(cfg.ApplicationName, "fusillade")
	s.primary.install(direct)
	pgconnect.NewGuard().Install(direct)
	inspected := direct.Copy()
	if before != nil {
		if err := before(ctx, inspected); err != nil {
			return nil, fmt.Errorf("connecting to the database: %w", err)
		}
	}
	server, err := pgconnect.Inspect(ctx, inspected)
	switch {
	case err != nil:
		return nil, err
	case server.Pooled && cfg.DirectURL != "":
		return nil, pgconnect.ErrDirectPooler
	case server.Pooled:
		return nil, pgconnect.ErrPooler
	}
	pgconnect.Pin(direct, true)
	s.db = newPooled(cfg.Pool, server.Major)
	if err := checkShared(ctx, cfg.Pool); err != nil {
		return nil, err
	}
	return s, s.Ping(ctx)
}

const sharedSQL = `SELECT current_setting('default_transaction_isolation'), to_regclass('batches') IS NOT NULL, current_setting('search_path')`

// checkShared checks what transactions cannot bring along.
func checkShared(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var isolation, path string
	var found bool
	if err := pool.QueryRow(ctx, sharedSQL).Scan(&isolation, &found, &path); err != nil {
		return fmt.Errorf("asking the database for its settings: %w", err)
	}
	if isolation != "read committed" {
		return fmt.Errorf("sessions of the pool begin with default_transaction_isolation = %s: read committed is needed", isolation)
	}
	if !found {
		return fmt.Errorf("sessions of the pool do not find the table batches by their search_path (%s): the pool and the migrations must look in the same schema", path)
	}
	return nil
}
