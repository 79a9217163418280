package pgconnect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

type fallback = pgconn.FallbackConfig

// MinMajor is the oldest Postgres that the schema works with.
const MinMajor = 14

// UnfitError says that a database can be reached and cannot be used until an
// operator changes it, or a setting: waiting is of no use.
type UnfitError struct{ reason string }

// Error says what is wrong and what to do.
func (e *UnfitError) Error() string { return e.reason }

func unfit(format string, args ...any) error { return &UnfitError{fmt.Sprintf(format, args...)} }

// Unfit reports whether the error says that waiting is of no use.
func Unfit(err error) bool {
	var u *UnfitError
	return errors.As(err, &u)
}

var (
	// ErrPooler is returned where sessions are needed and there is a pooler between.
	ErrPooler error = &UnfitError{"FUSILLADE_DATABASE_URL leads to a connection pooler such as pgbouncer, through which leadership and migrations cannot work: set FUSILLADE_DATABASE_DIRECT_URL to the database itself, beside it"}
	// ErrDirectPooler is the same of the URL that should not lead there.
	ErrDirectPooler  error = &UnfitError{"FUSILLADE_DATABASE_DIRECT_URL leads to a connection pooler such as pgbouncer: it must lead to the database itself"}
	errOtherDatabase error = &UnfitError{"FUSILLADE_DATABASE_URL and FUSILLADE_DATABASE_DIRECT_URL lead to different databases: they must lead to the same one, with and without the pooler"}
)

// Server is what Inspect finds out.
type Server struct {
	// Pooled: sessions are not kept, there is a pooler between.
	Pooled bool
	// Major is the version of Postgres.
	Major int
}

// inspectTimeout bounds an inspection.
const inspectTimeout = 30 * time.Second

// Inspect connects, finds out whether there is a pooler between, and checks what
// cannot be pinned. It returns an UnfitError for a database that cannot be used.
func Inspect(ctx context.Context, cfg *pgx.ConnConfig) (Server, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	sent := cfg.Copy()
	sent.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // a pooler keeps no statements
	plain := sent.Copy()
	Pin(sent, true)
	PinPooled(plain)
	conn, err := pgx.ConnectConfig(ctx, sent)
	refused := refusedParameters(err)
	if refused {
		conn, err = pgx.ConnectConfig(ctx, plain)
	}
	if err != nil {
		return Server{}, fmt.Errorf("connecting to the database: %w", err)
	}
	defer closeSoon(ctx, conn)
	server := Server{Pooled: refused}
	if server.Major, err = checkVersion(conn); err != nil {
		return server, err
	}
	if !server.Pooled {
		if server.Pooled, err = lost(ctx, conn); err != nil {
			return server, fmt.Errorf("looking for a pooler: %w", err)
		}
	}
	if !server.Pooled {
		if server.Pooled, err = shared(ctx, conn, sent); err != nil {
			return server, fmt.Errorf("looking for a pooler: %w", err)
		}
	}
	if err := checkDefaults(ctx, conn, server.Pooled); err != nil {
		return server, err
	}
	return server, nil
}

// refusedParameters reports whether a pooler, which pgbouncer is unless its
// ignore_startup_parameters says otherwise, takes no session settings. Postgres
// itself knows them all.
func refusedParameters(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "08P01" && strings.Contains(pgErr.Message, "startup parameter")
}

// lost reports whether settings that were sent did not arrive: a pooler ignores
// them. On Postgres itself nothing wins over those of a startup message.
func lost(ctx context.Context, conn *pgx.Conn) (bool, error) {
	for _, s := range planner {
		var value string
		if err := conn.QueryRow(ctx, "SHOW "+s.name).Scan(&value); err != nil {
			return false, err
		}
		if value != s.value {
			return true, nil
		}
	}
	return false, nil
}

// sharedTries is how often two connections are compared: others who use the pooler
// may come between.
const sharedTries = 5

// shared reports whether two connections that are open at once have been given
// the same session.
func shared(ctx context.Context, one *pgx.Conn, cfg *pgx.ConnConfig) (bool, error) {
	other, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer closeSoon(ctx, other)
	var first int
	for range sharedTries {
		for _, conn := range []*pgx.Conn{one, other} {
			var pid int
			if err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
				return false, err
			}
			switch {
			case conn == other && pid == first, conn == one && first != 0 && pid != first:
				return true, nil
			case conn == one:
				first = pid
			}
		}
	}
	return false, nil
}

func checkVersion(conn *pgx.Conn) (major int, err error) {
	version := conn.PgConn().ParameterStatus("server_version")
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(version)
	}
	if major, err = strconv.Atoi(version[:digits]); err != nil {
		return 0, unfit("the database says that it is version %q of Postgres, which is not understood", version)
	}
	if major < MinMajor {
		return major, unfit("the database is Postgres %s: %d or later is needed", version, MinMajor)
	}
	return major, nil
}

const defaultsSQL = `
SELECT current_database(), current_user, current_setting('server_encoding'),
       current_setting('default_transaction_isolation'), current_setting('session_replication_role')`

// checkDefaults refuses what a session cannot set for itself.
func checkDefaults(ctx context.Context, conn *pgx.Conn, pooled bool) error {
	var database, role, encoding, isolation, replication string
	if err := conn.QueryRow(ctx, defaultsSQL).Scan(&database, &role, &encoding, &isolation, &replication); err != nil {
		return fmt.Errorf("asking the database for its settings: %w", err)
	}
	switch {
	case encoding != "UTF8":
		return unfit("the database %s is encoded in %s, which cannot hold every prompt: create one with ENCODING 'UTF8' TEMPLATE template0", database, encoding)
	case replication != "origin":
		return unfit("sessions of the role %s begin with session_replication_role = %s, which turns constraints and triggers off: ALTER ROLE %s RESET session_replication_role, or reset it where else it is set",
			role, replication, pgx.Identifier{role}.Sanitize())
	case pooled && isolation != "read committed":
		return unfit("sessions of the role %s begin with default_transaction_isolation = %s, which cannot be changed through a pooler: ALTER ROLE %s SET default_transaction_isolation = 'read committed', and have the pooler connect again",
			role, isolation, pgx.Identifier{role}.Sanitize())
	}
	return nil
}

// SameDatabase checks that a connection through a pooler leads where a direct one does.
func SameDatabase(ctx context.Context, direct, pooled *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
	holder, err := pgx.ConnectConfig(ctx, direct)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer closeSoon(ctx, holder)
	// An advisory lock belongs to one database of one server. Nobody else uses this
	// number, which is that of the session, in a space of its own.
	var key int
	if err := holder.QueryRow(ctx, `SELECT pg_backend_pid() FROM pg_advisory_lock($1, pg_backend_pid())`, sameDatabaseLocks).Scan(&key); err != nil {
		return fmt.Errorf("comparing databases: %w", err)
	}
	through := pooled.Copy()
	through.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	PinPooled(through)
	conn, err := pgx.ConnectConfig(ctx, through)
	if err != nil {
		return fmt.Errorf("connecting to the database: %w", err)
	}
	defer closeSoon(ctx, conn)
	var free bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_xact_lock($1, $2)`, sameDatabaseLocks, key).Scan(&free); err != nil {
		return fmt.Errorf("comparing databases: %w", err)
	}
	if free {
		return errOtherDatabase
	}
	return nil
}

// sameDatabaseLocks spells "same" in ASCII.
const sameDatabaseLocks int32 = 0x73616d65

func closeSoon(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
