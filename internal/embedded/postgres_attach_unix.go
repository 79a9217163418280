//go:build unix

package embedded

import (
	"os"
	"path/filepath"
)

// AttachPostgres returns the URL of the server that a living owner of a data
// directory runs there, for another process of the same user. False: none runs.
// The owner may stop it at any time.
func AttachPostgres(dataDir string) (url string, ok bool) {
	_, socketDir, err := readPIDFile(filepath.Join(dataDir, clusterName, "postmaster.pid"))
	if err != nil || socketDir == "" {
		return "", false
	}
	if _, err := os.Stat(filepath.Join(socketDir, socketName)); err != nil {
		return "", false
	}
	return socketURL(socketDir, database), true
}
