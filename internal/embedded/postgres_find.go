package embedded

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// minMajor is the oldest Postgres that the schema and the settings work with.
	minMajor = 14
	// probeTimeout bounds a program that is only asked for a fact.
	probeTimeout = 5 * time.Second
)

// binPatterns are where packages of the common systems put a server's programs.
var binPatterns = []string{
	"/usr/lib/postgresql/*/bin",            // Debian, Ubuntu
	"/usr/pgsql-*/bin",                     // Red Hat, PostgreSQL's own packages
	"/usr/libexec/postgresql*",             // Alpine
	"/usr/local/pgsql/bin",                 // built from source
	"/opt/homebrew/opt/postgresql@*/bin",   // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",      // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/*/bin", // Homebrew on Linux
	"/opt/local/lib/postgresql*/bin",       // MacPorts
	"/Applications/Postgres.app/Contents/Versions/*/bin",
	"/usr/local/bin", // FreeBSD
	"/usr/bin",       // Arch, Fedora
}

// binaries are the programs of one Postgres version.
type binaries struct {
	dir     string
	version string // as the program says it: 17.5, 18beta1
	major   int
}

func (b binaries) path(program string) string { return filepath.Join(b.dir, program) }

// findBinaries returns the servers on this machine, the newest first; of two
// alike the one in an earlier place.
func findBinaries(ctx context.Context, extra []string) []binaries {
	dirs := slices.Clone(extra)
	if out, err := probe(ctx, "pg_config", "--bindir"); err == nil {
		dirs = append(dirs, out)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range binPatterns {
		matches, _ := filepath.Glob(pattern) // fails on a malformed pattern only
		dirs = append(dirs, matches...)
	}

	var found []binaries
	seen := map[string]bool{}
	for _, dir := range dirs {
		// A link in a directory of programs leads to where all of them are.
		server, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
		if err != nil || seen[server] {
			continue
		}
		seen[server] = true
		if b, err := inspectBinaries(ctx, filepath.Dir(server)); err == nil && b.major >= minMajor {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b binaries) int { return cmp.Compare(b.major, a.major) })
	return found
}

// inspectBinaries asks the server in dir for its version.
func inspectBinaries(ctx context.Context, dir string) (binaries, error) {
	b := binaries{dir: dir}
	if _, err := os.Stat(b.path("initdb")); err != nil {
		return b, err
	}
	out, err := probe(ctx, b.path("postgres"), "--version")
	if err != nil {
		return b, err
	}
	b.version, b.major, err = parseVersion(out)
	return b, err
}

// parseVersion reads "postgres (PostgreSQL) 15.8 (Debian 15.8-1)".
func parseVersion(s string) (version string, major int, err error) {
	_, rest, _ := strings.Cut(s, "(PostgreSQL) ")
	version, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
	end := 0
	for end < len(version) && version[end] >= '0' && version[end] <= '9' {
		end++
	}
	if major, err = strconv.Atoi(version[:end]); err != nil {
		return "", 0, fmt.Errorf("no Postgres version in %q", s)
	}
	return version, major, nil
}

func probe(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}
