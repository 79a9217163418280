//go:build unix

package embedded

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// fullDisk is free space, in bytes, that is too little for a server to start.
const fullDisk = 8 << 20

// fullDiskTexts are what a server and its tools say of a full disk. A child
// process has only text to tell us by; LC_ALL=C fixes the wording.
var fullDiskTexts = []string{"No space left on device", "Check free disk space"}

// explain joins err with the end of what the program wrote, and with the remedy
// when the disk under dir is full.
func (l *serverLog) explain(dir string, err error) error {
	l.mu.Lock()
	text := strings.Join(l.tail, "; ")
	l.mu.Unlock()
	if text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	full := slices.ContainsFunc(fullDiskTexts, func(s string) bool { return strings.Contains(text, s) })
	if full || diskIsFull(dir) {
		return explainDisk(dir, fmt.Errorf("%w: %w", syscall.ENOSPC, err))
	}
	return err
}

func diskIsFull(dir string) bool {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return false
	}
	return uint64(stat.Bavail)*uint64(stat.Bsize) < fullDisk
}
