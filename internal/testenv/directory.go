package testenv

import (
	"os"
	"testing"
)

// EnterableDir is a directory that every user may enter, unlike t.TempDir: what root
// starts as another user, such as Postgres, has its files there. It is removed at the
// end of the test.
func EnterableDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fusillade-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
