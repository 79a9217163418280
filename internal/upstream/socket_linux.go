package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ackedBytes returns how many of the bytes written the peer's kernel has
// acknowledged.
func ackedBytes(raw syscall.RawConn) (acked int64, known bool) {
	if raw == nil {
		return 0, false
	}
	err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		// The SYN counts as one, so nothing at all means that the kernel doesn't count.
		if err == nil && info.Bytes_acked > 0 {
			acked, known = int64(info.Bytes_acked)-1, true
		}
	})
	return acked, known && err == nil
}
