package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helperArg makes the test binary a process that owns a Postgres on the
// directory that follows, until its standard input ends.
const helperArg = "own-postgres"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == helperArg {
		if err := ownPostgres(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func ownPostgres(dir string) error {
	ctx := context.Background()
	p, err := StartPostgres(ctx, PostgresConfig{DataDir: dir, CacheDir: testCacheDir()})
	if err != nil {
		return err
	}
	fmt.Println(p.URL())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return p.Stop(ctx)
}

// testCacheDir outlives the run: it holds a server for machines without one.
func testCacheDir() string { return filepath.Join(os.TempDir(), "fusillade-test-cache") }

// shortDir is a directory for a server: anyone can pass its parent, unlike that
// of t.TempDir.
func shortDir(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts Postgres")
	}
	dir, err := os.MkdirTemp("", "fusillade-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// testContext bounds what could hang.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
