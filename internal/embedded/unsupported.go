//go:build !unix

package embedded

import (
	"context"
	"errors"
	"os"
	"runtime"
)

// postmaster is never started on this platform.
type postmaster struct{ done chan struct{} }

func (*postmaster) stop(context.Context) error { return nil }

func startLocal(context.Context, PostgresConfig) (*Postgres, error) {
	return nil, errors.New("running a Postgres server is not supported on " + runtime.GOOS + ": give the URL of a running one")
}

// AttachPostgres finds nothing on this platform.
func AttachPostgres(string) (url string, ok bool) { return "", false }

func removeLocal(_ context.Context, dataDir string) error { return os.RemoveAll(dataDir) }
