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

func nothingIn(fd uintptr) bool {
	var one [1]byte
	for {
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.EINTR) {
			return errors.Is(err, unix.EAGAIN)
		}
	}
}
