package embedded

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrInUse is returned when another process holds a data directory.
	ErrInUse = errors.New("data directory is in use")
	// ErrNoPostgres is returned when there is no Postgres to run; the message
	// around it says what was tried and what to do.
	ErrNoPostgres = errors.New("no Postgres found")
	// ErrInvalidURL is returned for a URL that is not a Postgres one. It
	// carries no part of the URL, which may hold a password.
	ErrInvalidURL = errors.New("invalid database URL: want postgres://user:password@host:port/database")
)

// explainDisk adds the directory and the remedy to an error that the disk under
// dir caused, and returns any other error as it is.
func explainDisk(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("no space left on the disk that holds %s: free some, or choose another directory: %w", dir, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s is on a read-only file system: choose another directory: %w", dir, err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s is not writable: change its owner or mode, or choose another directory: %w", dir, err)
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s, or one of its parents, is a file, not a directory: %w", dir, err)
	default:
		return err
	}
}
