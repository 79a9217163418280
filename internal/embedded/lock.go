package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// lockName is the file in a data directory that its holder keeps locked. It
// stays when the lock is released: a lock on a file that another process has
// just removed would guard nothing.
const lockName = "fusillade.lock"

// LockDir makes this process the only user of dir, which it creates with mode
// 0700 if need be, until unlock is called or the process ends, however it ends.
//
// It returns ErrInUse, with the holder's process id, when another process (or
// another call in this one) holds dir. unlock may be called more than once.
func LockDir(dir string) (unlock func() error, err error) {
	if dir == "" {
		return nil, errors.New("locking data directory: no directory given")
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("locking data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating data directory: %w", explainDisk(dir, err))
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking data directory: %w", explainDisk(dir, err))
	}
	locked, err := tryLock(f)
	if err == nil && !locked {
		err = fmt.Errorf("%w: %s is held by %s; stop it, or choose another directory", ErrInUse, dir, holder(f))
	}
	if err == nil {
		err = explainDisk(dir, writePID(f))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking data directory: %w", err), f.Close())
	}
	return func() error {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			return fmt.Errorf("unlocking data directory: %w", err)
		}
		return nil
	}, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names the process whose id is in f. The id may be missing for the
// moment between the holder's lock and its write.
func holder(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return "another process"
	}
	return "process " + strconv.Itoa(pid)
}
