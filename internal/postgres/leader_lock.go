package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Keys of advisory locks. The digits spell "fuleader" and "fuowners" in
// ASCII; migrations have a key of their own.
const (
	leaderLock int64 = 0x66756c6561646572
	ownerLock  int64 = 0x66756f776e657273
)

const (
	// confirmTimeout bounds the ping of a leader.
	confirmTimeout  = 5 * time.Second
	codeNoPrivilege = "42501"
)

// A leader that is frozen, or whose machine is gone without a word, keeps its
// session. Without the ping of every second the server ends it after five seconds,
// and another leads. The frozen one finds out at its next ping; until then both
// may act, which every statement of a leader allows. It is one statement, so that
// nobody has the lock without the limit: who froze between two would keep it.
const takeLeaderLockSQL = `SELECT set_config('idle_session_timeout', '5s', false), pg_try_advisory_lock($1)`

// confirmSQL writes a few bytes into the log of the server. With synchronous
// replication its commit waits for a standby: on a primary whose standby was
// promoted, and which nobody has stopped, it does not end, and who leads there
// stops. It needs no table, and changes nothing. On a demoted primary, where there is
// nothing to lead, it is false.
const confirmSQL = `
SELECT CASE WHEN current_setting('transaction_read_only')::boolean THEN false
            ELSE pg_logical_emit_message(true, 'fusillade', 'leader') IS NOT NULL END`

// confirm checks that what the session writes lasts.
func confirm(ctx context.Context, c *pgx.Conn) error {
	var writable bool
	err := c.QueryRow(ctx, confirmSQL).Scan(&writable)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == codeNoPrivilege:
		return checkWritable(ctx, c) // an operator took the function away: leading goes on without it
	case err == nil && !writable:
		return ErrReadOnly
	}
	return err
}

// Lead runs f while this process holds the leader's lock, and returns what f
// returned. It returns false at once if another process holds the lock. f's
// context ends when the connection that holds the lock is lost.
func (s *Store) Lead(ctx context.Context, f func(context.Context) error) (led bool, err error) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	// The lock lives and dies with the session.
	c, err := s.session(bounded)
	if err != nil {
		return false, fmt.Errorf("taking the leader's lock: %w", err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		// The server would release the lock some time after the connection is
		// closed; who leads next need not wait for that.
		_, _ = c.Exec(closing, `SELECT pg_advisory_unlock_all()`)
		_ = c.Close(closing)
	}()
	if err := c.QueryRow(bounded, takeLeaderLockSQL, leaderLock).Scan(nil, &led); err != nil {
		return false, fmt.Errorf("taking the leader's lock: %w", err)
	}
	if !led {
		return false, nil
	}
	first, cancelFirst := context.WithTimeout(bounded, confirmTimeout)
	defer cancelFirst()
	if err := confirm(first, c); err != nil {
		return false, fmt.Errorf("taking the leader's lock: %w", err)
	}
	leading, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f(leading) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return true, err
		case <-tick.C:
			ping, cancel := context.WithTimeout(context.WithoutCancel(ctx), confirmTimeout)
			err := confirm(ping, c)
			cancel()
			if err != nil {
				stop()
				if fErr := <-done; fErr != nil && ctx.Err() != nil {
					err = fErr
				}
				return true, fmt.Errorf("holding the leader's lock: %w", err)
			}
		}
	}
}
