//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

const (
	socketDirPrefix = "fusillade-pg-"
	// maxSocketDir keeps the socket's path below the shortest limit of any
	// platform, 103 bytes.
	maxSocketDir = 103 - len("/.s.PGSQL.65535")
)

// plainPath are the paths that the server's list of socket directories takes
// without quoting.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9/._-]+$`)

// makeSocketDir returns a directory that only we and the account can enter: in
// the data directory, or a temporary one where the socket's path would be too
// long for the platform.
func makeSocketDir(ctx context.Context, dataDir string, as account) (string, error) {
	inside := filepath.Join(dataDir, "socket")
	if usableForSocket(inside) {
		if err := os.Mkdir(inside, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("creating the socket directory: %w", explainDisk(dataDir, err))
		}
		return inside, as.give(inside)
	}
	var tried []string
	for _, parent := range slices.Compact([]string{os.TempDir(), "/tmp", "/var/tmp"}) {
		tried = append(tried, parent)
		if !usableForSocket(filepath.Join(parent, socketDirPrefix+"0123456789")) {
			continue
		}
		if as.checkReach(ctx, parent) != nil {
			continue
		}
		dir, err := os.MkdirTemp(parent, socketDirPrefix)
		if err != nil {
			continue
		}
		return dir, as.give(dir)
	}
	return "", fmt.Errorf("no directory for the server's socket: %s is too long a path, and none of %v can be used: choose a data directory with a shorter path", inside, tried)
}

func usableForSocket(dir string) bool {
	return len(dir) <= maxSocketDir && plainPath.MatchString(dir)
}
