package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"fusillade/internal/embedded"
)

// URLVariable is the environment variable that names a server to use.
const URLVariable = "FUSILLADE_TEST_DATABASE_URL"

// TemplateVariable names a database on the server of URLVariable that is migrated, for
// the tests to copy. Withpostgres sets it; without it each process migrates one.
const TemplateVariable = "FUSILLADE_TEST_DATABASE_TEMPLATE"

// VersionVariable names a major version of Postgres, which is found on the machine
// or downloaded, and started.
const VersionVariable = "FUSILLADE_TEST_POSTGRES_VERSION"

const (
	dataPattern = "fusillade-test-pg-*"
	// abandonedAfter is how old what a killed run left behind must be before
	// another run deletes it.
	abandonedAfter = time.Hour
)

// localSettings trade durability, which no test's server needs, for speed.
var localSettings = map[string]string{
	"fsync":            "off",
	"full_page_writes": "off",
	"wal_compression":  "off",
	"max_connections":  "600",
	"shared_buffers":   "64MB",
	"max_wal_size":     "512MB",
	"min_wal_size":     "80MB",
}

// backend is a running Postgres.
type backend struct {
	url       *url.URL
	source    string
	container bool
	// lasting is true for a server that others use and that stays.
	lasting bool
	stop    func(context.Context) error
}

// findBackend returns the first server that the package's documentation lists.
func findBackend(ctx context.Context) (backend, error) {
	if configured := os.Getenv(URLVariable); configured != "" {
		return dialBackend(ctx, configured)
	}
	if version := os.Getenv(VersionVariable); version != "" {
		major, err := strconv.Atoi(version)
		if err != nil {
			return backend{}, fmt.Errorf("%s is no major version of Postgres, such as 14", VersionVariable)
		}
		return startLocal(ctx, major)
	}
	b, dockerErr := startContainer(ctx)
	if dockerErr == nil {
		return b, nil
	}
	b, err := startLocal(ctx, 0)
	if err != nil {
		return b, fmt.Errorf("no Postgres for the tests: set %s, start Docker, or install Postgres: %w", URLVariable,
			errors.Join(fmt.Errorf("docker: %w", dockerErr), err))
	}
	return b, nil
}

func dialBackend(ctx context.Context, configured string) (backend, error) {
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{URL: configured})
	if err != nil {
		return backend{}, fmt.Errorf("%s: %w", URLVariable, err)
	}
	u, err := parseURL(configured)
	if err != nil {
		return backend{}, fmt.Errorf("%s: %w", URLVariable, err)
	}
	return backend{url: u, source: p.Source(), lasting: true, stop: p.Stop}, nil
}

func startLocal(ctx context.Context, major int) (backend, error) {
	if err := removeAbandoned(ctx); err != nil {
		return backend{}, err
	}
	dir, err := os.MkdirTemp(dataRoot(), dataPattern)
	if err != nil {
		return backend{}, err
	}
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{
		DataDir:  dir,
		Major:    major,
		CacheDir: filepath.Join(os.TempDir(), "fusillade-test-cache"),
		Settings: maps.Clone(localSettings),
	})
	if err != nil {
		return backend{}, errors.Join(err, os.RemoveAll(dir))
	}
	u, err := parseURL(p.URL())
	stop := func(ctx context.Context) error {
		return errors.Join(p.Stop(ctx), os.RemoveAll(dir))
	}
	if err != nil {
		return backend{}, errors.Join(err, stop(ctx))
	}
	return backend{url: u, source: p.Source(), stop: stop}, nil
}

// removeAbandoned deletes the servers of test processes that were killed.
func removeAbandoned(ctx context.Context) error {
	var dirs []string
	for _, root := range []string{os.TempDir(), dataRoot()} {
		found, err := filepath.Glob(filepath.Join(root, dataPattern))
		if err != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < abandonedAfter {
			continue // gone, or too young to tell from one that is starting
		}
		err = embedded.RemovePostgres(ctx, dir)
		if err != nil && !errors.Is(err, embedded.ErrInUse) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	return nil
}

// parseURL accepts only the form that a database's name can be put into.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, embedded.ErrInvalidURL
	}
	return u, nil
}
