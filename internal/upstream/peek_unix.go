//go:build unix

package upstream

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// nothingArrived reports whether the socket has no bytes to read, and no end.
func nothingArrived(raw syscall.RawConn) (nothing bool) {
	// Control, not Read, which would wait for the reader.
	err := raw.Control(func(fd uintptr) { nothing = nothingIn(fd) })
	return nothing && err == nil
}

func nothingIn(fd uintptr) bool { return errors.Is(peek(fd), unix.EAGAIN) }

func peek(fd uintptr) error {
	var one [1]byte
	for {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// nextError waits for what comes next on the socket, no longer than its deadline
// for reads. It returns nil for bytes and for an end.
func nextError(raw syscall.RawConn) (next error) {
	err := raw.Read(func(fd uintptr) bool {
		next = peek(fd)
		return !errors.Is(next, unix.EAGAIN)
	})
	if err != nil {
		return err
	}
	return next
}
