package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	code := func(c string) error { return fmt.Errorf("writing results: %w", &pgconn.PgError{Code: c}) }
	for _, test := range []struct {
		name string
		err  error
		want Class
		full bool
	}{
		{"none", nil, Refused, false},
		{"not found", fmt.Errorf("reading batch: %w", batch.ErrNotFound), Refused, false},
		{"a state", fmt.Errorf("removing file: %w", batch.ErrFileState), Refused, false},
		{"a state with its value", fmt.Errorf("cancelling: %w", &batch.BatchFinishedError{}), Refused, false},
		{"an allowance", fmt.Errorf("creating: %w", &batch.AllowanceError{}), Refused, false},
		{"connection closed", io.ErrUnexpectedEOF, Unavailable, false},
		{"connection reset", fmt.Errorf("reading: %w", &net.OpError{Op: "read", Err: syscall.ECONNRESET}), Unavailable, false},
		{"timeout", context.DeadlineExceeded, Unavailable, false},
		{"an argument that cannot be encoded", errors.New("failed to encode args[0]"), Suspect, false},
		{"connection does not exist", code("08003"), Unavailable, false},
		{"cardinality violation", code("21000"), Suspect, false},
		{"string too long", code("22001"), Content, false},
		{"number out of range", code("22003"), Suspect, false},
		{"division by zero", code("22012"), Suspect, false},
		{"not in the encoding", code("22021"), Content, false},
		{"not JSON", code("22P02"), Content, false},
		{"U+0000 in JSON", code("22P05"), Content, false},
		{"foreign key violation", code("23503"), Suspect, false},
		{"unique violation", code("23505"), Suspect, false},
		{"check violation", code("23514"), Suspect, false},
		{"read-only: a primary no more", code("25006"), Unavailable, false},
		{"idle in transaction timeout", code("25P03"), Unavailable, false},
		{"prepared statement lost behind a pooler", code("26000"), Suspect, false},
		{"password refused, as in a rotation", code("28P01"), Unavailable, false},
		{"database does not exist yet", code("3D000"), Unavailable, false},
		{"serialization failure", code("40001"), Unavailable, false},
		{"deadlock", code("40P01"), Unavailable, false},
		{"a grant is missing", code("42501"), Suspect, false},
		{"syntax error", code("42601"), Suspect, false},
		{"undefined column, in a migration", code("42703"), Suspect, false},
		{"prepared statement exists, behind a pooler", code("42P05"), Suspect, false},
		{"cached plan must not change result type", code("0A000"), Suspect, false},
		{"disk full", code("53100"), Unavailable, true},
		{"out of memory", code("53200"), Unavailable, false},
		{"too many connections", code("53300"), Unavailable, false},
		{"program limit exceeded", code("54000"), Content, false},
		{"stack depth exceeded", code("54001"), Suspect, false},
		{"lock not available", code("55P03"), Unavailable, false},
		{"statement cancelled", code("57014"), Unavailable, false},
		{"admin shutdown", code("57P01"), Unavailable, false},
		{"starting up", code("57P03"), Unavailable, false},
		{"input or output error", code("58030"), Unavailable, false},
		{"raised by a trigger", code("P0001"), Suspect, false},
		{"internal error", code("XX000"), Suspect, false},
		{"index corrupted", code("XX002"), Suspect, false},
		{"no code", code(""), Suspect, false},
		{"a code of tomorrow", code("ZZ999"), Suspect, false},
	} {
		if got := Classify(test.err); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if got := DiskFull(test.err); got != test.full {
			t.Errorf("%s: disk full: %t", test.name, got)
		}
	}
}

// What the driver and a server really return has the classes that the table has.
func TestClassifyRealErrors(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for name, test := range map[string]struct {
		sql  string
		args []any
		want Class
	}{
		"NUL in text":        {`SELECT $1::text`, []any{"a\x00b"}, Content},
		"no UTF-8":           {`SELECT $1::text`, []any{"a\xff"}, Content},
		"U+0000 in JSON":     {`SELECT $1::jsonb`, []any{`{"a":"\u0000"}`}, Content},
		"a number too large": {`SELECT $1::int`, []any{int64(1) << 40}, Suspect},
		"a sum too large":    {`SELECT 2147483647 + $1::int`, []any{1}, Suspect},
		"no such table":      {`SELECT FROM nowhere`, nil, Suspect},
		"an exception":       {`DO $$BEGIN RAISE 'no'; END$$`, nil, Suspect},
		"a duplicate":        {`INSERT INTO users (name, weight) VALUES ('a', 1), ('a', 1)`, nil, Suspect},
	} {
		_, err := s.pool.Exec(t.Context(), test.sql, test.args...)
		if got := Classify(err); got != test.want {
			t.Errorf("%s: %s, want %s: %v", name, got, test.want, err)
		}
	}
}

func TestBrokenConnectionIsTransient(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	sqlExec(t, s, `SELECT pg_terminate_backend($1, 10000)`, int32(conn.Conn().PgConn().PID()))
	if _, err := conn.Exec(t.Context(), `SELECT 1`); !Transient(err) {
		t.Errorf("%v is not transient", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("the store does not connect again: %v", err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	for name, bad := range map[string]string{
		"no URL":         "postgres://user:sesame@host:port/db?x=y",
		"nobody listens": "postgres://user:sesame@127.0.0.1:1/db",
		"no such file":   "host=/nonexistent user=a password=sesame",
	} {
		s, err := Open(t.Context(), Config{URL: bad})
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		if strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: the error holds the password: %v", name, err)
		}
	}
	s, err := Open(t.Context(), Config{URL: url, Timeout: time.Nanosecond})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that the deadline is exceeded", err)
	}
	if err == nil {
		s.Close()
	}
}

// Each call has a deadline of its own, whatever the caller's.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	holder := openStore(t, url)
	id := newBatch(t, holder, 1)
	d := newDaemon(t, holder)
	deliveries := started(t, holder, d, id, 1)
	tx, err := holder.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), lockBatchesSQL, [][16]byte{id}); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Config{URL: url, Timeout: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.Finish(t.Context(), d, endings(completed, deliveries), nil)
	if !errors.Is(err, context.DeadlineExceeded) || !Transient(err) {
		t.Errorf("%v, want that the deadline is exceeded", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	// It may have been written all the same, or not; by now or at the next try.
	finish(t, s, d, completed(deliveries[0]))
	if got := counts(t, s, id); got.Completed != 1 {
		t.Errorf("%+v", got)
	}
	check(t, s)
}

func TestWALBytes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	before, err := s.WALBytes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	newBatch(t, s, 10)
	if after, err := s.WALBytes(t.Context()); err != nil || after <= before {
		t.Errorf("%d after %d, %v", after, before, err)
	}
}
