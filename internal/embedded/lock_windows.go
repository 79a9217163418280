package embedded

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockOffset is past the process id: Windows lets nobody read a locked range.
const lockOffset = 1 << 20

// tryLock locks f until it is closed; it reports false if another handle holds
// the lock.
func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		&windows.Overlapped{Offset: lockOffset})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return false, nil
	}
	return err == nil, err
}
