package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent has the kernel send sig to the process when the thread that
// starts it ends: the starter must be locked to that thread.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) {
	attr.Pdeathsig = sig
}

// serverProcesses are the processes of a server on dataDir: its main process and
// all the others work in that directory.
func serverProcesses(dataDir string, _ int) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, link := range links {
		// Fails for processes that have ended, and for other users', which
		// cannot be a server on a directory of ours.
		cwd, err := os.Readlink(link)
		if err != nil || cwd != dataDir {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
