package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"

	"fusillade/internal/backoff"
	"fusillade/internal/pgconnect"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

const (
	// Pauses between tries to connect as a process starts.
	minStartPause, maxStartPause = 250 * time.Millisecond, 5 * time.Second
	// startLogInterval is how often a process that waits says so.
	startLogInterval = 30 * time.Second
)

// step is one thing that must be there before a process can work.
type step struct {
	what string // is there in the end: Postgres, NATS
	try  func(context.Context) error
}

// bounded is a step of which each try takes no longer than connections do.
func bounded(what string, try func(context.Context) error) step {
	return step{what, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
		defer cancel()
		return try(ctx)
	}}
}

// once makes each step, and returns the first error.
func once(ctx context.Context, steps []step) error {
	for _, s := range steps {
		if err := s.try(ctx); err != nil {
			return err
		}
	}
	return nil
}

// starter makes steps until they succeed: a cluster's processes may start at once
// and in any order, and what they need comes, and goes again, while they do.
type starter struct {
	log     *slog.Logger
	timeout time.Duration // 0: none
	// brief: only what Postgres will pass by itself is waited for, and nothing that
	// an operator must do elsewhere.
	brief bool
	// say is told what the process waits for; empty: for nothing.
	say func(what string)
}

// until makes each step again and again. It returns an error that does not pass
// by waiting, or when ctx ends or the timeout is over.
func (s starter) until(ctx context.Context, steps []step) error {
	if s.timeout > 0 {
		timed, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("not ready within FUSILLADE_STARTUP_TIMEOUT_MS (%s)", s.timeout))
		defer cancel()
		ctx = timed
	}
	defer s.say("")
	for _, one := range steps {
		if err := s.wait(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func (s starter) wait(ctx context.Context, one step) error {
	began, said, last := time.Now(), time.Time{}, ""
	for pause := backoff.New(minStartPause, maxStartPause); ; {
		err := one.try(ctx)
		switch {
		case err == nil:
			if !said.IsZero() {
				s.log.Info("waited for "+one.what, "seconds", time.Since(began).Seconds())
			}
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case unusable(err), s.brief && !postgres.Transient(err):
			return err
		}
		what := one.what
		if errors.Is(err, ErrNotMigrated) {
			what = "migrations"
		}
		s.say("waiting for " + what + ": " + publicReason(err))
		if what != last || time.Since(said) >= startLogInterval {
			last, said = what, time.Now()
			s.log.Warn("waiting for "+what, "err", err)
		}
		if pause.Wait(ctx) != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}

// errUnusable marks an error of settings, which no waiting mends.
var errUnusable = errors.New("the setting cannot be used")

func unusable(err error) bool {
	return errors.Is(err, errUnusable) || errors.Is(err, streams.ErrReplicas) || errors.Is(err, pgconnect.ErrInvalidURL) || pgconnect.Unfit(err)
}

// publicReason says why a step fails in words that everybody may read: an error
// may name hosts and users.
func publicReason(err error) string {
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, ErrNotMigrated):
		return err.Error()
	case errors.Is(err, streams.ErrTooFewServers):
		return streams.ErrTooFewServers.Error()
	case errors.Is(err, postgres.ErrReadOnly):
		return postgres.ErrReadOnly.Error()
	case errors.As(err, &pgErr):
		return "it refuses, with SQLSTATE " + pgErr.Code
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrPermissionViolation):
		return "it refuses the credentials"
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), postgres.Transient(err):
		return "no answer"
	}
	return "see the log"
}
