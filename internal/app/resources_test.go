package app

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/testenv"
)

func TestConnectRefusesADatabaseThatIsNotMigrated(t *testing.T) {
	t.Parallel()
	s := defaults(t)
	if err := s.Postgres.URL.Set(testenv.EmptyDatabaseURL(t)); err != nil {
		t.Fatal(err)
	}
	_, err := Connect(t.Context(), "consumer", &s.Process, &s.Daemon, testenv.Logger(t))
	if !errors.Is(err, ErrNotMigrated) || !strings.Contains(err.Error(), "fusillade migrate up") {
		t.Errorf("%v, want ErrNotMigrated and what to do", err)
	}
}

// What cannot be reached is named, without its password.
func TestConnectHidesSecrets(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for name, broker := range map[string]bool{"NATS": true, "database": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := defaults(t)
			databaseURL := "postgres://user:" + secret + "@127.0.0.1:1/db?connect_timeout=5"
			if broker {
				databaseURL = testenv.DatabaseURL(t)
			}
			if err := s.Postgres.URL.Set(databaseURL); err != nil {
				t.Fatal(err)
			}
			if err := s.NATS.URL.Set("nats://user:" + secret + "@127.0.0.1:1"); err != nil {
				t.Fatal(err)
			}
			_, err := Connect(t.Context(), "consumer", &s.Process, &s.Daemon, testenv.Logger(t))
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v, want an error that names the %s and no password", err, name)
			}
		})
	}
}

// A program that is older than its database says so, and works.
func TestNewerDatabaseIsTold(t *testing.T) {
	t.Parallel()
	s := defaults(t)
	url := testenv.DatabaseURL(t)
	if err := s.Postgres.URL.Set(url); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)`); err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	if err := checkMigrated(t.Context(), &s.Postgres, slog.New(slog.NewTextHandler(&logs, nil))); err != nil {
		t.Error(err)
	}
	if !strings.Contains(logs.String(), "newer release") || !strings.Contains(logs.String(), "99999") {
		t.Errorf("the log is %q", logs.String())
	}
}
