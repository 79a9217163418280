package app

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"fusillade/internal/config"
	"fusillade/internal/testenv"
)

func TestConnectRefusesADatabaseThatIsNotMigrated(t *testing.T) {
	t.Parallel()
	s := defaults(t)
	if err := s.Postgres.URL.Set(testenv.EmptyDatabaseURL(t)); err != nil {
		t.Fatal(err)
	}
	_, err := Connect(t.Context(), "consumer", s.Postgres, s.NATS, s.Daemon, testenv.Logger(t))
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
			_, err := Connect(t.Context(), "consumer", s.Postgres, s.NATS, s.Daemon, testenv.Logger(t))
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v, want an error that names the %s and no password", err, name)
			}
		})
	}
}

// binary is one that cannot run, because it never should.
func binary(t *testing.T) Role {
	var cfg config.Consumer
	return Role{
		Role: "consumer", About: "Does things.", Settings: &cfg,
		Daemon: &cfg.Daemon, Postgres: &cfg.Postgres, NATS: &cfg.NATS, Logging: &cfg.Logging,
		Run: func(Env) error {
			t.Error("it runs")
			return nil
		},
	}
}

func TestBinaryHelp(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--help", "-h"} {
		var out bytes.Buffer
		if err := binary(t).main([]string{flag}, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Usage: consumer", "Does things.", "FUSILLADE_DATABASE_URL", "FUSILLADE_MAX_IN_FLIGHT"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s does not say %q", flag, want)
			}
		}
	}
}

func TestBinaryRefusesArguments(t *testing.T) {
	t.Parallel()
	err := binary(t).main([]string{"--verbose"}, io.Discard, io.Discard)
	if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "--help") {
		t.Errorf("%v, want ErrUsage and a word about --help", err)
	}
}

// Everything that is wrong with the environment is named at once, the settings
// that other packages read included.
func TestBinaryRefusesSettings(t *testing.T) {
	t.Setenv("FUSILLADE_MAX_IN_FLIGHT", "0")
	t.Setenv("FUSILLADE_SHOULD_RETRY", "7xx")
	t.Setenv("FUSILLADE_MAX_IN_FLIHGT", "7")
	err := binary(t).main(nil, io.Discard, io.Discard)
	if !errors.Is(err, ErrUsage) {
		t.Fatalf("%v, want ErrUsage", err)
	}
	for _, want := range []string{"FUSILLADE_MAX_IN_FLIGHT", "FUSILLADE_SHOULD_RETRY", "FUSILLADE_MAX_IN_FLIHGT", "FUSILLADE_DATABASE_URL", "FUSILLADE_NATS_URL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, which does not name %s", err, want)
		}
	}
}
