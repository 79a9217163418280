package postgres

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"fusillade/internal/batch"
)

// ErrDatabaseInUse is returned by OwnDatabase when other daemons work on the
// database.
var ErrDatabaseInUse = errors.New("the database is in use")

// translate turns driver errors into the domain's.
func translate(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return batch.ErrNotFound
	}
	return err
}

// Class says what a failed call means for the one who made it.
type Class int

// The classes of failures. A caller that writes several items in one call acts on
// them so that no item holds up the others, and none that was paid for is lost.
const (
	// Refused: the call did what it does, and this is its answer, such as
	// batch.ErrNotFound. The same call gets the same answer.
	Refused Class = iota
	// Unavailable: the server cannot be reached, is starting, stopping, full or
	// not the primary, or transactions collided. It says nothing about the items:
	// make the same call again after a backoff, for as long as it takes.
	Unavailable
	// Content: Postgres can never store a value of this call, such as text with a
	// NUL. Find the item by splitting, and store it without that value.
	Content
	// Suspect: Postgres refused the statement for another cause: an internal
	// error, a constraint that another transaction raced for, a migration or a
	// grant under way, a prepared statement lost behind a pooler. The cause may be
	// one item, and may pass. Split, and try each item that is refused alone
	// again after a backoff, apart from the others; never give up its content.
	Suspect
)

// String names the class for logs.
func (c Class) String() string {
	return [...]string{Refused: "refused", Unavailable: "unavailable", Content: "content", Suspect: "suspect"}[c]
}

// Classify returns the class of an error of the store.
func Classify(err error) Class {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return classifyCode(pgErr.Code)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case err == nil, batch.IsRefusal(err):
		return Refused
	case errors.Is(err, ErrReadOnly), errors.As(err, &connect), errors.As(err, &network), pgconn.Timeout(err), pgconn.SafeToRetry(err),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, pgx.ErrTxClosed):
		return Unavailable
	}
	// The driver could not encode an argument, or the server broke the protocol.
	return Suspect
}

// Codes of which the class alone says too little. PostgreSQL documentation,
// appendix A.
var codes = map[string]Class{
	"22003": Suspect, // numeric_value_out_of_range: a counter or sum of ours
	"22012": Suspect, // division_by_zero: no value of a client's is a divisor
	"25006": Unavailable,
	"54000": Content, // program_limit_exceeded: a value is too large
}

// Classes of codes; those that are not listed are Suspect.
var codeClasses = map[string]Class{
	"08": Unavailable, // connection exception
	"22": Content,     // data exception
	"25": Unavailable, // invalid transaction state: read only, idle in transaction
	"28": Unavailable, // invalid authorization: a password is being changed
	"3D": Unavailable, // invalid catalog name: the database is being restored
	"40": Unavailable, // transaction rollback: deadlock, serialization
	"53": Unavailable, // insufficient resources: disk, memory, connections
	"55": Unavailable, // object not in prerequisite state: a lock timed out
	"57": Unavailable, // operator intervention: shutdown, statement timeout
	"58": Unavailable, // system error: I/O
}

func classifyCode(code string) Class {
	if class, known := codes[code]; known {
		return class
	}
	if class, known := codeClasses[code[:min(2, len(code))]]; known {
		return class
	}
	return Suspect
}

// Transient reports whether the same call may succeed later without a change.
func Transient(err error) bool { return Classify(err) == Unavailable }

// LacksPrivilege reports whether the server refused because of the role that this
// process has there.
func LacksPrivilege(err error) bool { return hasCode(err, codeNoPrivilege) }

func hasCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

// DiskFull reports whether the server said that it has no space left.
func DiskFull(err error) bool { return hasCode(err, "53100") }
