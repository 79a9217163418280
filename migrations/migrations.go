// Package migrations holds the database schema as numbered SQL files and
// brings a database to the newest of them.
//
// Any number of processes may migrate one database at once: every session that
// changes the schema holds one advisory lock, taken as the session begins and
// released by the server when it ends, so a killed process never leaves the
// lock behind.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"fusillade/internal/pgconnect"
)

//go:embed *.sql
var files embed.FS

const (
	// closeTimeout bounds the goodbye of a session.
	closeTimeout = 10 * time.Second
	// runLimit bounds one call of Up or Down, the wait for the lock included.
	runLimit = 30 * time.Minute
	// statusLimit bounds one call of Status.
	statusLimit = 30 * time.Second
)

var (
	// ErrNothingApplied is returned by Down on a database without migrations.
	ErrNothingApplied = errors.New("no migration is applied")
	// ErrInvalidURL is returned for a URL that is not a Postgres one. It
	// carries no part of the URL, which may hold a password.
	ErrInvalidURL = pgconnect.ErrInvalidURL
)

// Status is one migration and when it was applied.
type Status struct {
	// Version is the number that the file name starts with.
	Version int64
	// Name is the file's name.
	Name string
	// AppliedAt is zero for a migration that is not applied.
	AppliedAt time.Time
}

// Up applies every migration that the database lacks, each in a transaction of
// its own. A database that is newer than this build is left as it is. When Up
// fails, the migrations before the one that the error names stay applied.
func Up(ctx context.Context, databaseURL string) error {
	return up(ctx, files, databaseURL)
}

// UpConn is Up for a connection that is configured already.
func UpConn(ctx context.Context, cfg *pgx.ConnConfig) error {
	cfg = cfg.Copy()
	pgconnect.Bound(cfg)
	return upConn(ctx, files, cfg)
}

// Down rolls the newest applied migration back. It returns ErrNothingApplied
// when there is none.
func Down(ctx context.Context, databaseURL string) error {
	return down(ctx, files, databaseURL)
}

// List returns the migrations of this build in order, each with the time it was
// applied. It waits for no lock and changes nothing.
func List(ctx context.Context, databaseURL string) ([]Status, error) {
	return list(ctx, files, databaseURL)
}

// Schema is how a database stands to this build.
type Schema struct {
	// Missing are the names of migrations that are not applied, in order.
	Missing []string
	// Newer is the newest applied migration that this build does not have; 0: none.
	Newer int64
}

// Compare says how the database stands to this build. It waits for no lock and
// changes nothing.
func Compare(ctx context.Context, databaseURL string) (Schema, error) {
	var s Schema
	all, newest, err := listAll(ctx, files, databaseURL)
	if err != nil {
		return s, err
	}
	for _, m := range all {
		if m.AppliedAt.IsZero() {
			s.Missing = append(s.Missing, m.Name)
		}
	}
	if newest > all[len(all)-1].Version {
		s.Newer = newest
	}
	return s, nil
}

func up(ctx context.Context, fsys fs.FS, databaseURL string) error {
	cfg, err := pgconnect.Parse(databaseURL)
	if err != nil {
		return fmt.Errorf("migrating up: %w", err)
	}
	return upConn(ctx, fsys, cfg)
}

func upConn(ctx context.Context, fsys fs.FS, cfg *pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	provider, db, err := openConn(ctx, fsys, cfg, holdLock)
	if err != nil {
		return fmt.Errorf("migrating up: %w", err)
	}
	defer provider.Close()
	if _, err := migrated(ctx, db); err != nil {
		return fmt.Errorf("migrating up: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("migrating up: %w", naming(err))
	}
	return nil
}

func down(ctx context.Context, fsys fs.FS, databaseURL string) error {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	provider, _, err := open(ctx, fsys, databaseURL, holdLock)
	if err != nil {
		return fmt.Errorf("migrating down: %w", err)
	}
	defer provider.Close()
	_, err = provider.Down(ctx)
	switch {
	case errors.Is(err, goose.ErrNoNextVersion):
		return fmt.Errorf("migrating down: %w", ErrNothingApplied)
	case errors.Is(err, goose.ErrVersionNotFound):
		version, versionErr := provider.GetDBVersion(ctx)
		if versionErr != nil {
			return fmt.Errorf("migrating down: %w", versionErr)
		}
		return fmt.Errorf("migrating down: migration %d is not part of this build; use the build that applied it", version)
	case err != nil:
		return fmt.Errorf("migrating down: %w", naming(err))
	}
	return nil
}

func list(ctx context.Context, fsys fs.FS, databaseURL string) ([]Status, error) {
	all, _, err := listAll(ctx, fsys, databaseURL)
	return all, err
}

// listAll also returns the version of the newest migration that is applied, be it
// of another build.
func listAll(ctx context.Context, fsys fs.FS, databaseURL string) (all []Status, newest int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusLimit)
	defer cancel()
	provider, db, err := open(ctx, fsys, databaseURL, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("listing migrations: %w", err)
	}
	defer provider.Close()

	// Provider.Status would create the version table.
	begun, err := migrated(ctx, db)
	if err != nil {
		return nil, 0, fmt.Errorf("listing migrations: %w", err)
	}
	if !begun {
		for _, source := range provider.ListSources() {
			all = append(all, Status{Version: source.Version, Name: path.Base(source.Path)})
		}
		return all, 0, nil
	}
	statuses, err := provider.Status(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("listing migrations: %w", err)
	}
	for _, s := range statuses {
		all = append(all, Status{Version: s.Source.Version, Name: path.Base(s.Source.Path), AppliedAt: s.AppliedAt})
	}
	if newest, err = provider.GetDBVersion(ctx); err != nil {
		return nil, 0, fmt.Errorf("listing migrations: %w", err)
	}
	return all, newest, nil
}

// schemasSQL finds our tables where a session does not look for them.
const schemasSQL = `
SELECT to_regclass($1) IS NOT NULL, current_setting('search_path'), current_user,
       (SELECT min(n.nspname) FROM pg_namespace n
         WHERE 3 = (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname IN ($1, 'templates', 'cursors')))`

// migrated reports whether any migration was applied. It returns an error if the
// tables are in a schema that the session does not look into: migrations would
// make a second set of them.
func migrated(ctx context.Context, db *sql.DB) (bool, error) {
	var found bool
	var path, role string
	var elsewhere sql.NullString
	if err := db.QueryRowContext(ctx, schemasSQL, goose.DefaultTablename).Scan(&found, &path, &role, &elsewhere); err != nil {
		return false, err
	}
	if !found && elsewhere.Valid {
		return false, fmt.Errorf("the tables are in the schema %q, which is not in the search_path (%s) of the role %q: put ?search_path=%s at the end of the database URL, or ALTER ROLE", elsewhere.String, path, role, elsewhere.String)
	}
	return found, nil
}

// open returns a provider and the database it owns: closing the provider closes
// both. setUp, if there is one, is called with each session that begins, which
// then must be able to write.
func open(ctx context.Context, fsys fs.FS, databaseURL string, setUp func(context.Context, *pgx.Conn) error) (*goose.Provider, *sql.DB, error) {
	cfg, err := pgconnect.Parse(databaseURL)
	if err != nil {
		return nil, nil, err
	}
	return openConn(ctx, fsys, cfg, setUp)
}

func openConn(ctx context.Context, fsys fs.FS, cfg *pgx.ConnConfig, setUp func(context.Context, *pgx.Conn) error) (*goose.Provider, *sql.DB, error) {
	if setUp != nil && cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	server, err := pgconnect.Inspect(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	if server.Pooled {
		return nil, nil, pgconnect.ErrPooler
	}
	pgconnect.Pin(cfg, false)
	db := stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		if err := pgconnect.AfterConnect(ctx, conn); err != nil || setUp == nil {
			return err
		}
		return setUp(ctx, conn)
	}))
	// The lock belongs to a session, so all work must be done in one.
	db.SetMaxOpenConns(1)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, fsys,
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return provider, db, nil
}

// naming puts the file name of the migration that failed before its error.
func naming(err error) error {
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		return fmt.Errorf("%s: %w", path.Base(partial.Failed.Source.Path), partial.Err)
	}
	return err
}
