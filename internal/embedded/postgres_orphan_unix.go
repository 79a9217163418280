//go:build unix

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fusillade/internal/backoff"
)

const (
	// orphanFast is how long an orphaned server gets for a clean shutdown,
	// orphanLimit how long it gets in all. Past orphanFast it is stopped
	// without a checkpoint, which loses nothing.
	orphanFast  = 20 * time.Second
	orphanLimit = 30 * time.Second
	orphanPoll  = 20 * time.Millisecond
)

// stopOrphan stops a server that a killed process left running on dataDir, and
// removes its process-id file where Postgres would take it for a live server's.
// The caller holds the lock around dataDir, so no living owner can be hit.
func stopOrphan(ctx context.Context, dataDir string, as account, log *slog.Logger) error {
	pidFile := filepath.Join(dataDir, "postmaster.pid")
	mainPID, socketDir, err := readPIDFile(pidFile)
	if err != nil {
		return err
	}
	start := time.Now()
	var sent syscall.Signal
	poll := backoff.New(orphanPoll, orphanPoll)
	for {
		pids, err := serverProcesses(dataDir, mainPID)
		if err != nil {
			return fmt.Errorf("looking for a server on %s: %w", dataDir, err)
		}
		if len(pids) == 0 {
			break
		}
		if sent == 0 {
			log.Info("stopping the Postgres that an earlier run left behind", slog.Int("pid", mainPID))
		}
		waited := time.Since(start)
		if waited > orphanLimit {
			return fmt.Errorf("a Postgres of an earlier run still runs on %s and does not stop: end process %d", dataDir, pids[0])
		}
		want := syscall.SIGINT // fast shutdown
		if waited > orphanFast {
			want = syscall.SIGQUIT // immediate shutdown
		}
		// Without their main process the others end by themselves.
		if sent != want && slices.Contains(pids, mainPID) {
			if err := syscall.Kill(mainPID, want); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("stopping process %d, a Postgres on %s: %w", mainPID, dataDir, err)
			}
		}
		sent = want
		if err := poll.Wait(ctx); err != nil {
			return fmt.Errorf("stopping the Postgres of an earlier run: %w", err)
		}
	}
	// Postgres sees by itself that a dead process holds nothing. An id that
	// now belongs to some other process would keep it from starting.
	if mainPID > 0 && syscall.Kill(mainPID, 0) == nil {
		if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return removeSocketDir(socketDir, as)
}

// readPIDFile returns the main process and the socket directory named in a
// server's process-id file, and zero values if there is none or it is cut short.
func readPIDFile(path string) (pid int, socketDir string, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", err
	}
	lines := strings.Split(string(raw), "\n")
	if pid, err = strconv.Atoi(strings.TrimSpace(lines[0])); err != nil || pid <= 1 {
		pid = 0
	}
	if len(lines) > 4 {
		socketDir = lines[4]
	}
	return pid, socketDir, nil
}

// removeSocketDir deletes a socket directory that makeSocketDir put outside of
// the data directory. dir may come from a file that the server's user can
// write, so it is believed only where that user could have deleted it too.
func removeSocketDir(dir string, as account) error {
	if !strings.HasPrefix(filepath.Base(dir), socketDirPrefix) {
		return nil
	}
	owner, err := ownerOf(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && owner != as.uid {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

func removeLocal(ctx context.Context, dataDir string) (err error) {
	unlock, err := LockDir(dataDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	dir, err := filepath.EvalSymlinks(dataDir)
	if err != nil {
		return err
	}
	cluster := filepath.Join(dir, clusterName)
	if _, err := os.Stat(cluster); err == nil {
		as, err := serverAccount(cluster)
		if err != nil {
			return err
		}
		if err := stopOrphan(ctx, cluster, as, slog.New(slog.DiscardHandler)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}
