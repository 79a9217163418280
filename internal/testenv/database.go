package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/migrations"
)

const (
	// namePrefix starts the name of every database made here, followed by the
	// time the process started, in seconds of Unix time.
	namePrefix = "fusillade_test_"
	// createLimit bounds the creation or the removal of one database.
	createLimit = time.Minute
)

// databaseServer makes databases on a backend.
type databaseServer struct {
	backend
	admin  *pgxpool.Pool
	prefix string // of this process's databases
	made   atomic.Int64

	template string
	borrowed bool   // the template is another process's
	strategy string // of copying a template, as an option of CREATE DATABASE
}

// DatabaseURL returns a migrated database that is the test's own, dropped when
// the test is done. It fails the test when there is no server.
func DatabaseURL(t testing.TB) string {
	t.Helper()
	return newDatabase(t, func(s *databaseServer) string { return s.template })
}

// EmptyDatabaseURL is DatabaseURL without the migrations.
func EmptyDatabaseURL(t testing.TB) string {
	t.Helper()
	return newDatabase(t, func(*databaseServer) string { return "template0" })
}

func newDatabase(t testing.TB, template func(*databaseServer) string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs Postgres")
	}
	server, err := process.databases()
	if err != nil {
		t.Fatal(err)
	}
	name := server.prefix + strconv.FormatInt(server.made.Add(1), 10)
	ctx, cancel := context.WithTimeout(t.Context(), createLimit)
	defer cancel()
	if err := server.create(ctx, name, template(server)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), createLimit)
		defer cancel()
		if err := server.drop(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return server.urlOf(name)
}

// startServer finds a backend and makes a server of it.
func startServer(ctx context.Context) (*databaseServer, error) {
	b, err := findBackend(ctx)
	if err != nil {
		return nil, err
	}
	return newServer(ctx, b, os.Getenv(TemplateVariable))
}

// newServer copies a template that there is on b or, without a name, one that it
// migrates. It stops b if that fails.
func newServer(ctx context.Context, b backend, template string) (*databaseServer, error) {
	s := &databaseServer{
		backend: b,
		prefix:  fmt.Sprintf("%s%d_%s_", namePrefix, time.Now().Unix(), strings.ReplaceAll(uuid.NewString()[:13], "-", "")),
	}
	s.template, s.borrowed = cmp.Or(template, s.prefix+"template"), template != ""
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(err, s.close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *databaseServer) prepare(ctx context.Context) error {
	cfg, err := pgxpool.ParseConfig(s.url.String())
	if err != nil {
		return errors.New("preparing the test databases: the server's URL is not valid")
	}
	cfg.MaxConns = 4
	if s.admin, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return fmt.Errorf("preparing the test databases: %w", err)
	}
	if err := s.chooseStrategy(ctx); err != nil {
		return err
	}
	if s.lasting {
		if err := s.dropAbandoned(ctx); err != nil {
			return err
		}
	}
	if s.borrowed {
		return nil
	}
	if err := s.create(ctx, s.template, "template0"); err != nil {
		return err
	}
	if err := migrations.Up(ctx, s.urlOf(s.template)); err != nil {
		return fmt.Errorf("preparing the test databases: %w", err)
	}
	return nil
}

// chooseStrategy has the template's files copied as they are where that is
// possible and quick: it costs a tenth of the processor time of copying through
// the log, but two checkpoints, which wait for the disk unless fsync is off.
func (s *databaseServer) chooseStrategy(ctx context.Context) error {
	const q = `SELECT current_setting('server_version_num')::int >= 150000 AND current_setting('fsync') = 'off'`
	var quick bool
	if err := s.admin.QueryRow(ctx, q).Scan(&quick); err != nil {
		return fmt.Errorf("preparing the test databases: %w", err)
	}
	if quick {
		s.strategy = ` STRATEGY file_copy`
	}
	return nil
}

// close drops what is left and stops a server that we started.
func (s *databaseServer) close(ctx context.Context) error {
	var err error
	if s.admin != nil {
		if s.lasting && !s.borrowed {
			err = s.drop(ctx, s.template)
		}
		s.admin.Close()
	}
	return errors.Join(err, s.stop(ctx))
}

func (s *databaseServer) create(ctx context.Context, name, template string) error {
	_, err := s.admin.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()+
		` TEMPLATE `+pgx.Identifier{template}.Sanitize()+s.strategy)
	if err != nil {
		return fmt.Errorf("creating a test database: %w", err)
	}
	return nil
}

func (s *databaseServer) drop(ctx context.Context, name string) error {
	_, err := s.admin.Exec(ctx, `DROP DATABASE IF EXISTS `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`)
	if err != nil {
		return fmt.Errorf("dropping a test database: %w", err)
	}
	return nil
}

// dropAbandoned drops what processes that were killed left on a lasting server.
func (s *databaseServer) dropAbandoned(ctx context.Context) error {
	const q = `
		SELECT datname FROM pg_database
		WHERE substring(datname FROM '^' || $1 || '([0-9]+)_')::numeric < $2`
	rows, err := s.admin.Query(ctx, q, namePrefix, time.Now().Add(-abandonedAfter).Unix())
	if err != nil {
		return fmt.Errorf("looking for abandoned test databases: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("looking for abandoned test databases: %w", err)
	}
	for _, name := range names {
		if err := s.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *databaseServer) urlOf(name string) string {
	u := *s.url
	u.Path = "/" + name
	return u.String()
}
