//go:build unix

package cli

import (
	"os"
	"path/filepath"
	"strings"
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

// A failure to write names the output, not the file that is to take its place.
func TestOutputThatFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out.jsonl")
	o, err := NewOutput(new(Terminal), "--output", path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := o.Create()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.file.Close(); err != nil {
		t.Fatal(err)
	}
	_, writeErr := w.Write(make([]byte, 2*writerBytes))
	for _, err := range []error{writeErr, w.Keep()} {
		if err == nil || !strings.Contains(err.Error(), "writing "+path+": ") || strings.Contains(err.Error(), ".fusillade-") {
			t.Errorf("%v", err)
		}
	}
	w.Abandon()
}
