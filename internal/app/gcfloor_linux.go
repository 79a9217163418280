package app

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// releasePages returns the pages of b to the system until they are used. Go clears what it
// allocates where something else may have been before, and so touches all of it.
func releasePages(b []byte) {
	page := uintptr(unix.Getpagesize())
	before := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % page
	if whole := (uintptr(len(b)) - before) / page * page; before+whole <= uintptr(len(b)) {
		_ = unix.Madvise(b[before:before+whole], unix.MADV_DONTNEED) // else it stays resident
	}
}
