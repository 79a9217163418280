package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

// demote makes every connection of the pool one to a server that takes no
// writes, as a failover in place does. New connections can write.
func demote(t *testing.T, s *Store) {
	t.Helper()
	var all []*pgxpool.Conn
	for range int(s.pool.Config().MaxConns) {
		conn, err := s.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `SET default_transaction_read_only = on`); err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
	}
	for _, conn := range all {
		conn.Release()
	}
}

// A pool that is left on a demoted primary leaves it with the first write that
// is refused, whichever way the write is sent.
func TestPoolLeavesADemotedPrimary(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(context.Context, *Store, batch.DaemonID) error{
		"a statement": func(ctx context.Context, s *Store, d batch.DaemonID) error { return s.Heartbeat(ctx, d, Progress{}) },
		"a transaction": func(ctx context.Context, s *Store, _ batch.DaemonID) error {
			_, err := s.CreateWebhook(ctx, creator, "http://one", func(string) ([]byte, error) { return []byte("secret"), nil })
			return err
		},
		"a batch of statements": func(ctx context.Context, s *Store, d batch.DaemonID) error {
			_, err := s.Finish(ctx, d, []Completion{completed(Delivery{Claim: 1, Number: 1})}, nil)
			return err
		},
		"a ping": func(ctx context.Context, s *Store, _ batch.DaemonID) error { return s.Ping(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			d := newDaemon(t, s)
			demote(t, s)
			if err := write(t.Context(), s, d); err == nil || Classify(err) != Unavailable {
				t.Fatalf("on a server that takes no writes: %v", err)
			}
			for range 3 {
				if err := write(t.Context(), s, d); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
		})
	}
}

// A database that takes no writes is not ready, is not opened, and is ready again
// by itself.
func TestReadOnlyDatabaseIsNotReady(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	s, other := openStore(t, url), openStore(t, url)
	set := func(value string) {
		var name string
		if err := other.queryRow(t.Context(), `SELECT quote_ident(current_database())`, nil, &name); err != nil {
			t.Fatal(err)
		}
		sqlExec(t, other, `ALTER DATABASE `+name+` SET default_transaction_read_only = `+value)
	}
	set("on")
	s.pool.Reset()
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a database that takes no writes is ready")
	}
	if _, err := Open(t.Context(), Config{URL: url}); err == nil {
		t.Error("a database that takes no writes was opened")
	}
	set("off")
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	demote(t, s)
	if err := s.Ping(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v", err)
	}
}
