package ui_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What others wrote is as their packages have it.
func TestVendored(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"static/uplot", "testdata/axe-core"} {
		source, err := os.ReadFile(filepath.Join(dir, "SOURCE"))
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]string{"SOURCE": ""}
		for line := range strings.Lines(string(source)) {
			if hash, name, found := strings.Cut(strings.TrimSpace(line), "  "); found && len(hash) == 2*sha256.Size {
				named[name] = hash
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(content)
			if want, known := named[e.Name()]; !known || want != "" && want != hex.EncodeToString(sum[:]) {
				t.Errorf("%s/%s is not the file that SOURCE names", dir, e.Name())
			}
			delete(named, e.Name())
		}
		for name := range named {
			t.Errorf("%s/%s is missing", dir, name)
		}
	}
}
