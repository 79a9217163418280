package config

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of settings into README.md")

// The table of settings in README.md is the one that the code has.
func TestReadme(t *testing.T) {
	t.Parallel()
	const path = "../../README.md"
	document, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	current, err := ReplaceMarkdown(string(document), new(Standalone))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(current), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(current, string(document)); diff != "" {
		t.Errorf("README.md is out of date; run make readme (-want +got):\n%s", diff)
	}
}
