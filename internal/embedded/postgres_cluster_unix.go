//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// clusterName is the cluster's directory in a data directory.
	clusterName = "data"
	// unfinishedPattern is a cluster that initdb is still making.
	unfinishedPattern = "data.new-*"
	// initLimit bounds initdb, which takes about a second.
	initLimit = 2 * time.Minute
)

// childEnv is a server's whole environment: none of ours may change where it
// keeps its data or what it listens on.
var childEnv = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}

// clusterMajor is the Postgres major version that made the cluster in dataDir,
// and zero if there is none.
func clusterMajor(dataDir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dataDir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(dataDir); err == nil {
			return 0, fmt.Errorf("%s is not a Postgres data directory: it has no PG_VERSION", dataDir)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("%s: unknown Postgres version %q", dataDir, strings.TrimSpace(string(raw)))
	}
	return major, nil
}

// removeUnfinished deletes what an initdb that was killed left in dir.
func removeUnfinished(dir string) error {
	matches, err := filepath.Glob(filepath.Join(dir, unfinishedPattern))
	if err != nil {
		return err
	}
	for _, match := range matches {
		if err := os.RemoveAll(match); err != nil {
			return explainDisk(dir, err)
		}
	}
	return nil
}

// initCluster makes a cluster in dataDir, completely or not at all: initdb works
// in a directory beside it, which gets its name when it is done.
func initCluster(ctx context.Context, bin binaries, as account, dataDir string, sync bool) error {
	parent := filepath.Dir(dataDir)
	unfinished, err := os.MkdirTemp(parent, unfinishedPattern)
	if err != nil {
		return fmt.Errorf("creating a database cluster: %w", explainDisk(parent, err))
	}
	err = as.give(unfinished)
	if err == nil {
		err = initdb(ctx, bin, as, unfinished, sync)
	}
	if err == nil {
		err = explainDisk(parent, os.Rename(unfinished, dataDir))
	}
	if err == nil && sync {
		err = syncDir(parent)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("creating a database cluster: %w", err), os.RemoveAll(unfinished))
	}
	return nil
}

func initdb(ctx context.Context, bin binaries, as account, dir string, sync bool) error {
	// The child is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	ctx, cancel := context.WithTimeout(ctx, initLimit)
	defer cancel()
	args := []string{
		"-D", dir, "-U", role,
		"--auth-local=trust", "--auth-host=reject",
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	if !sync {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, bin.path("initdb"), args...)
	cmd.Env = childEnv
	cmd.Dir = dir
	cmd.SysProcAttr = as.attributes(syscall.SIGKILL)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = probeTimeout
	out := newServerLog(nil)
	cmd.Stdout = out
	cmd.Stderr = out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("running initdb: %w", context.Cause(ctx))
		}
		return fmt.Errorf("running initdb: %w", out.explain(filepath.Dir(dir), err))
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
