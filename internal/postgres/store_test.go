package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

func TestClassification(t *testing.T) {
	t.Parallel()
	code := func(c string) error { return fmt.Errorf("writing results: %w", &pgconn.PgError{Code: c}) }
	for _, test := range []struct {
		name            string
		err             error
		transient, full bool
	}{
		{"none", nil, false, false},
		{"not found", fmt.Errorf("reading batch: %w", batch.ErrNotFound), false, false},
		{"conflict", fmt.Errorf("removing file: %w", batch.ErrConflict), false, false},
		{"connection closed", io.ErrUnexpectedEOF, true, false},
		{"timeout", context.DeadlineExceeded, true, false},
		{"connection does not exist", code("08003"), true, false},
		{"data exception: division by zero", code("22012"), false, false},
		{"data exception: not in the encoding", code("22021"), false, false},
		{"unique violation", code("23505"), false, false},
		{"check violation", code("23514"), false, false},
		{"read-only: a primary no more", code("25006"), true, false},
		{"idle in transaction timeout", code("25P03"), true, false},
		{"password refused, as in a rotation", code("28P01"), true, false},
		{"database does not exist yet", code("3D000"), true, false},
		{"serialization failure", code("40001"), true, false},
		{"deadlock", code("40P01"), true, false},
		{"syntax error", code("42601"), false, false},
		{"undefined table", code("42P01"), false, false},
		{"disk full", code("53100"), true, true},
		{"out of memory", code("53200"), true, false},
		{"too many connections", code("53300"), true, false},
		{"program limit exceeded", code("54000"), false, false},
		{"lock not available", code("55P03"), true, false},
		{"statement cancelled", code("57014"), true, false},
		{"admin shutdown", code("57P01"), true, false},
		{"starting up", code("57P03"), true, false},
		{"input or output error", code("58030"), true, false},
		{"internal error", code("XX000"), true, false},
		{"no code", code(""), false, false},
	} {
		if got := Transient(test.err); got != test.transient {
			t.Errorf("%s: transient: %t", test.name, got)
		}
		if got := DiskFull(test.err); got != test.full {
			t.Errorf("%s: disk full: %t", test.name, got)
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
