package migrations

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/backoff"
)

const (
	// lockID is the advisory lock's key within the database: "fusillad" in ASCII.
	lockID int64 = 0x667573696c6c6164
	// lockWait bounds the wait for another process's migrations.
	lockWait = 10 * time.Minute
	// lockPoll is the mean pause between two tries for the lock.
	lockPoll = 100 * time.Millisecond
	// tableLockTimeout stops a migration that waits for a busy table before
	// everyone else queues up behind it.
	tableLockTimeout = "30s"
)

// holdLock takes the migration lock for the session that conn begins; it is
// released when the session ends.
//
// It polls: a session that blocked on the lock would hold a snapshot open, and
// a CREATE INDEX CONCURRENTLY in the holder would wait for it for ever.
func holdLock(ctx context.Context, conn *pgx.Conn) (err error) {
	// The caller drops conn without closing it when this fails.
	defer func() {
		if err != nil {
			closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
			defer cancel()
			_ = conn.Close(closeCtx)
		}
	}()
	if _, err := conn.Exec(ctx, `SET lock_timeout = '`+tableLockTimeout+`'`); err != nil {
		return fmt.Errorf("setting lock_timeout: %w", err)
	}
	waiting, cancel := context.WithTimeoutCause(ctx, lockWait, fmt.Errorf("another process has held it for %s", lockWait))
	defer cancel()
	poll := backoff.New(lockPoll, lockPoll)
	for {
		var held bool
		if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lockID).Scan(&held); err != nil {
			return fmt.Errorf("taking the migration lock: %w", err)
		}
		if held {
			return nil
		}
		if err := poll.Wait(waiting); err != nil {
			return fmt.Errorf("taking the migration lock: %w", err)
		}
	}
}
