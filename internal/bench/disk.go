package bench

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// freeBytes is how much may still be written in a directory, if that can be told.
func freeBytes(dir string) (n int64, known bool) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, false
	}
	return int64(uint64(stat.Bavail) * uint64(stat.Bsize)), true
}

// diskBytes is how much the files below dir have; what goes meanwhile is passed over.
func diskBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // gone, or not ours to see
		}
		if info, err := entry.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}
