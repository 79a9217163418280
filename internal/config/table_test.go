package config

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of settings into docs/configuration.md")

// The table of settings in docs/configuration.md is the one that the code has.
func TestConfigurationTable(t *testing.T) {
	t.Parallel()
	const path = "../../docs/configuration.md"
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
		t.Errorf("docs/configuration.md is out of date; run make readme (-want +got):\n%s", diff)
	}
}
