package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/backoff"
)

const clusterDaemonsSQL = `
SELECT count(*) FROM daemons
 WHERE role <> 'standalone' AND status <> 'dead' AND last_heartbeat > now() - $1::interval`

const (
	// ownPatience is how long OwnDatabase waits for the connection of a killed
	// process to be noticed as closed; ownPoll is the mean pause between two looks.
	ownPatience = 5 * time.Second
	ownPoll     = 100 * time.Millisecond
)

// OwnDatabase makes this process the only one that works on the database, for as long
// as it lives or until release. It returns ErrDatabaseInUse if another process
// owns it, or a dispatcher or consumer has had a heartbeat within stale.
func (s *Store) OwnDatabase(ctx context.Context, stale time.Duration) (release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// The lock lives and dies with the session.
	conn, err := s.session(ctx)
	if err != nil {
		return nil, fmt.Errorf("owning the database: %w", err)
	}
	release = func() { closeSession(context.Background(), conn) }
	if err := s.own(ctx, conn, stale); err != nil {
		release()
		return nil, fmt.Errorf("owning the database: %w", err)
	}
	return release, nil
}

func (s *Store) own(ctx context.Context, conn *pgx.Conn, stale time.Duration) error {
	poll := backoff.New(ownPoll, ownPoll)
	for deadline := time.Now().Add(ownPatience); ; {
		var locked bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, ownerLock).Scan(&locked); err != nil {
			return err
		}
		if locked {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w by another fusillade run", ErrDatabaseInUse)
		}
		if err := poll.Wait(ctx); err != nil {
			return err
		}
	}
	var daemons int
	if err := conn.QueryRow(ctx, clusterDaemonsSQL, stale).Scan(&daemons); err != nil {
		return err
	}
	if daemons > 0 {
		return fmt.Errorf("%w by a cluster: %d dispatchers and consumers", ErrDatabaseInUse, daemons)
	}
	return nil
}

const (
	endAllDaemonsSQL = `
UPDATE daemons SET status = 'dead', stopped_at = now(), requests_in_flight = 0 WHERE status <> 'dead'`

	// A backoff that has not ended goes on.
	returnAllSQL = `
UPDATE requests SET state = 'pending', daemon_id = NULL, due_at = GREATEST(now(), not_before), not_before = NULL
 WHERE due_at IS NULL`
)

// Recover puts everything that an earlier process left in the middle back to
// pending, at once. It is only for a database and a stream that this process
// has to itself: it assumes that no other daemon lives and that the stream is
// empty; see Own. It returns how many requests were returned.
func (s *Store) Recover(ctx context.Context) (int, error) {
	var n int64
	err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, endAllDaemonsSQL); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, returnAllSQL)
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("recovering requests: %w", err)
	}
	return int(n), nil
}
