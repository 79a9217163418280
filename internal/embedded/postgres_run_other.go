//go:build unix && !linux

package embedded

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing: the next start stops a server that outlived us.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// serverProcesses is the main process of a server on dataDir, whose id may be
// mainPID, if it runs.
func serverProcesses(dataDir string, mainPID int) ([]int, error) {
	out, err := probe(context.Background(), "ps", "-o", "args=", "-p", strconv.Itoa(mainPID))
	if _, none := errors.AsType[*exec.ExitError](err); none {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if strings.Contains(out, "postgres") && strings.Contains(out, dataDir) {
		return []int{mainPID}, nil
	}
	return nil, nil
}
