package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// database and role are the names of the database and of its owner.
	database = "fusillade"
	role     = "fusillade"

	connectTimeout = 10 * time.Second
)

// PostgresConfig says which Postgres to use.
type PostgresConfig struct {
	// URL is a running server to use. Empty: start one on this machine.
	URL string
	// DataDir keeps everything of the server that is started. Required unless
	// URL is set.
	DataDir string
	// Major is the version that a new data directory is made with; 0: the newest one
	// found.
	Major int
	// BinDirs are searched before the usual places for a server's programs.
	BinDirs []string
	// CacheDir keeps a server that was downloaded because the machine has none.
	// Empty: nothing is downloaded.
	CacheDir string
	// DownloadURL is a mirror of the Maven repository to download from. Empty:
	// the public one.
	DownloadURL string
	// Settings are added to the server's settings and win over ours. With
	// fsync=off the data directory is created without syncing too.
	Settings map[string]string
	// Log takes the server's own messages. Nil: they are dropped.
	Log *slog.Logger
}

// Postgres is a server to connect to. Its methods are safe for concurrent use.
type Postgres struct {
	url    string
	source string
	server *postmaster // nil for a server that we did not start
}

// StartPostgres returns a server that answers: the one at cfg.URL; else one that
// it starts with programs found on the machine; else one that it downloads. With
// a server of its own the process has no use for the variables that clients of
// Postgres read, such as PGSERVICE: they are removed from its environment.
//
// The caller must call Stop. ctx bounds the start, not the server's life.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*Postgres, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.URL != "" {
		return dialPostgres(ctx, cfg.URL)
	}
	if cfg.DataDir == "" {
		return nil, errors.New("starting Postgres: neither URL nor DataDir is set")
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("starting Postgres: %w", err)
	}
	cfg.DataDir = dir
	dropClientEnvironment()
	p, err := startLocal(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("starting Postgres: %w", err)
	}
	return p, nil
}

// URL is what to connect to. It may hold a password.
func (p *Postgres) URL() string { return p.url }

// Source says in a few words which server this is, without a secret.
func (p *Postgres) Source() string { return p.source }

// Done is closed when the server that we started has ended, by Stop or by
// itself. It is nil, and blocks for ever, for a server that we did not start.
func (p *Postgres) Done() <-chan struct{} {
	if p.server == nil {
		return nil
	}
	return p.server.done
}

// Stop shuts a server that we started down and returns when it has ended. Open
// connections are cut. When ctx ends first the server is stopped without a
// checkpoint: nothing committed is lost, the next start takes longer.
func (p *Postgres) Stop(ctx context.Context) error {
	if p.server == nil {
		return nil
	}
	if err := p.server.stop(ctx); err != nil {
		return fmt.Errorf("stopping Postgres: %w", err)
	}
	return nil
}

// RemovePostgres deletes a data directory, after stopping the server that an
// owner which was killed left on it. It returns ErrInUse, and deletes nothing,
// when the directory has a living owner.
func RemovePostgres(ctx context.Context, dataDir string) error {
	if err := removeLocal(ctx, dataDir); err != nil {
		return fmt.Errorf("removing the Postgres data directory: %w", err)
	}
	return nil
}

func dialPostgres(ctx context.Context, databaseURL string) (*Postgres, error) {
	cfg, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, ErrInvalidURL
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // a pooler keeps no statements
	address := net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Postgres server at %s, database %q, as user %q: %w", address, cfg.Database, cfg.User, err)
	}
	defer conn.Close(ctx)
	var version string
	if err := conn.QueryRow(ctx, `SHOW server_version`).Scan(&version); err != nil {
		return nil, fmt.Errorf("asking the Postgres server at %s for its version: %w", address, err)
	}
	return &Postgres{
		url:    databaseURL,
		source: fmt.Sprintf("Postgres %s at %s, database %s", version, address, cfg.Database),
	}, nil
}

// socketURL is the URL of a database behind a socket in dir. It names every
// part that a client would otherwise take from the environment.
func socketURL(dir, database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.User(role),
		Path:   "/" + database,
		RawQuery: url.Values{
			"host":    {dir},
			"port":    {strconv.Itoa(socketPort)},
			"sslmode": {"disable"},
		}.Encode(),
	}
	return u.String()
}
