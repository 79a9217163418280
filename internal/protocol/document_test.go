package protocol_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// document compares a table of docs/design.md with what was found, or writes it.
func document(t *testing.T, name, table string) {
	t.Helper()
	const path = "../../docs/design.md"
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
	before, rest, begins := strings.Cut(string(content), begin)
	old, after, ends := strings.Cut(rest, end)
	switch {
	case !begins || !ends:
		t.Fatalf("%s has no place for the %s", path, name)
	case *update:
		if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		if diff := cmp.Diff(table, old); diff != "" {
			t.Errorf("%s is out of date; run make readme (-want +got):\n%s", path, diff)
		}
	}
}
