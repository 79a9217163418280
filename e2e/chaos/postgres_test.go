//go:build chaos && unix

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/embedded"
	"fusillade/migrations"
)

const (
	startLimit       = 2 * time.Minute
	templateDatabase = "migrated"
)

// postgresServer is a server of our own, which can be killed.
type postgresServer struct {
	dir     string
	running *embedded.Postgres
	made    atomic.Int64
}

func newPostgresServer() (*postgresServer, error) {
	dir, err := os.MkdirTemp("", "fchaos-pg-") // a socket's path must be short
	if err != nil {
		return nil, err
	}
	s := &postgresServer{dir: dir}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err = s.create(ctx, templateDatabase, "template0"); err == nil {
		err = migrations.Up(ctx, s.urlOf(templateDatabase))
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *postgresServer) start() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	s.running, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{
		DataDir: s.dir, CacheDir: filepath.Join(os.TempDir(), "fusillade-test-cache"),
		// A killed process loses nothing that the kernel has; the machine stays up.
		Settings: map[string]string{"fsync": "off", "max_connections": "400", "shared_buffers": "64MB"},
	})
	return err
}

// kill ends the server with no chance to clean up. Its sessions end as they
// notice.
func (s *postgresServer) kill() error {
	found, err := filepath.Glob(filepath.Join(s.dir, "*", "postmaster.pid"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("looking for the server's process id: %v, %w", found, err)
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("process id %q: %w", line, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-s.running.Done()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return s.running.Stop(ctx) // lets go of the data directory
}

func (s *postgresServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	return errors.Join(s.running.Stop(ctx), os.RemoveAll(s.dir))
}

func (s *postgresServer) create(ctx context.Context, name, template string) error {
	conn, err := pgx.Connect(ctx, s.running.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize()+` TEMPLATE `+pgx.Identifier{template}.Sanitize())
	return err
}

func (s *postgresServer) urlOf(name string) string {
	u, err := url.Parse(s.running.URL())
	if err != nil {
		panic(err)
	}
	u.Path = "/" + name
	return u.String()
}

// database makes a migrated database.
func (s *postgresServer) database(t *testing.T) string {
	t.Helper()
	name := "chaos_" + strconv.FormatInt(s.made.Add(1), 10)
	if err := s.create(t.Context(), name, templateDatabase); err != nil {
		t.Fatal(err)
	}
	return s.urlOf(name)
}
