//go:build !unix

package upstream

import "syscall"

// nothingArrived: the reader has not been woken, and more is not known here.
func nothingArrived(syscall.RawConn) bool { return true }

// nextError is not known here.
func nextError(syscall.RawConn) error { return nil }
