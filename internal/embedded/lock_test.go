package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestLockDirExcludes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	unlock, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of a created directory = %v, %v; want 0700", info.Mode(), err)
	}

	_, err = LockDir(dir)
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("second LockDir = %v, want ErrInUse", err)
	}
	for _, want := range []string{dir, "process " + strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not name %q", err, want)
		}
	}

	for range 2 {
		if err := unlock(); err != nil {
			t.Errorf("unlock = %v", err)
		}
	}
	unlock, err = LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir after unlock = %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockDirRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dir  string
		want string
	}{
		"no directory":        {"", "no directory given"},
		"a file":              {file, "is a file, not a directory"},
		"below a file":        {filepath.Join(file, "sub"), "is a file, not a directory"},
		"cannot hold a child": {"/dev/null/x", "is a file, not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := LockDir(tt.dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.dir) {
				t.Errorf("LockDir(%q) = %v, want an error with %q", tt.dir, err, tt.want)
			}
		})
	}
}

func TestExplainDisk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "write", Path: "/data/x", Err: syscall.ENOSPC}, "no space left on the disk that holds /data: free some"},
		{&os.PathError{Op: "open", Path: "/data/x", Err: syscall.EACCES}, "/data is not writable: change its owner or mode"},
		{&os.PathError{Op: "open", Path: "/data/x", Err: syscall.EROFS}, "/data is on a read-only file system"},
	} {
		got := explainDisk("/data", tt.err)
		if !strings.Contains(got.Error(), tt.want) || !errors.Is(got, tt.err) {
			t.Errorf("explainDisk(%v) = %v, want %q around it", tt.err, got, tt.want)
		}
	}
	if other := errors.New("other"); explainDisk("/data", other) != other || explainDisk("/data", nil) != nil {
		t.Error("explainDisk changes errors that are not the disk's")
	}
}
