//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Not parallel: the umask is the process's.
func TestModeOfOutputs(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	dir := t.TempDir()
	existing := newFile(t, dir, "existing", "")
	if err := os.Chmod(existing, 0o604); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{filepath.Join(dir, "new"): 0o640, existing: 0o604} {
		o, err := NewOutputs(new(Terminal), path, "")
		if err != nil {
			t.Fatal(err)
		}
		fill(t, o)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}
