//go:build !linux

package testenv

import "os"

// dataRoot is the directory for data of servers.
func dataRoot() string { return os.TempDir() }
