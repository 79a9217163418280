//go:build unix

package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeBinaries are programs that say they are Postgres 99, newer than any real
// one, and fail with the given message.
func fakeBinaries(t *testing.T, message string) string {
	t.Helper()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"postgres": "echo 'postgres (PostgreSQL) 99.1'",
		"initdb":   "echo '" + message + "' >&2; exit 1",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFailureWhileStarting(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	fullDisk := []string{"no space left on the disk that holds " + dir, "free some"}
	for name, tt := range map[string]struct {
		message string
		want    []string
	}{
		"full disk":      {`error: could not write file "x": No space left on device`, fullDisk},
		"full disk hint": {`HINT:  Check free disk space.`, fullDisk},
		"other":          {`error: invalid locale name`, []string{"creating a database cluster: running initdb"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := StartPostgres(testContext(t), PostgresConfig{
				DataDir: dir,
				BinDirs: []string{fakeBinaries(t, tt.message)},
			})
			for _, want := range append(tt.want, tt.message) {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("StartPostgres = %v, want %q in it", err, want)
				}
			}
			left, err := filepath.Glob(filepath.Join(dir, "data*"))
			if err != nil || len(left) > 0 {
				t.Errorf("a failed start left %v, %v", left, err)
			}
		})
	}
}

func TestClusterOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	cluster := filepath.Join(dir, clusterName)
	if err := os.Mkdir(cluster, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cluster, "PG_VERSION"), []byte("98\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Root's own cluster would be refused for that.
	if os.Geteuid() == 0 {
		if err := os.Chown(cluster, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	fake := fakeBinaries(t, "")
	_, err := StartPostgres(testContext(t), PostgresConfig{DataDir: dir, BinDirs: []string{fake}})
	for _, want := range []string{"made by Postgres 98", "here is only 99.1 in " + fake, "install Postgres 98"} {
		if !errors.Is(err, ErrNoPostgres) || !strings.Contains(err.Error(), want) {
			t.Errorf("StartPostgres = %v, want ErrNoPostgres with %q", err, want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		out, version string
		major        int
		ok           bool
	}{
		{"postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)", "15.8", 15, true},
		{"postgres (PostgreSQL) 18beta1\n", "18beta1", 18, true},
		{"postgres (PostgreSQL) 9.6.24", "9.6.24", 9, true},
		{"postgres (PostgreSQL) devel", "", 0, false},
		{"", "", 0, false},
	} {
		version, major, err := parseVersion(tt.out)
		if version != tt.version || major != tt.major || (err == nil) != tt.ok {
			t.Errorf("parseVersion(%q) = %q, %d, %v", tt.out, version, major, err)
		}
	}
}
