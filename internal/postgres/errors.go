package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"fusillade/internal/batch"
)

// ErrDatabaseInUse: other daemons work on this database.
var ErrDatabaseInUse = errors.New("the database is in use")

// translate turns driver errors into the domain's.
func translate(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return batch.ErrNotFound
	}
	return err
}

// Transient reports whether the same call may succeed later: the connection
// broke or was refused, the server is starting, stopping or no longer the
// primary, or transactions collided. What Postgres refuses for its content is
// not transient.
// Codes: PostgreSQL documentation, appendix A.
func Transient(err error) bool {
	if err == nil {
		return false
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return !errors.Is(err, batch.ErrNotFound) && !errors.Is(err, batch.ErrConflict)
	}
	switch class := pgErr.Code[:min(2, len(pgErr.Code))]; class {
	case "08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX":
		return true
	}
	return false
}

// DiskFull reports whether the server said that it has no space left.
func DiskFull(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "53100"
}
