package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Each command that is shown has a page, which names its flags; groff, where it
// is installed, finds nothing wrong in it.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	must(t, "man", dir)
	groff, _ := exec.LookPath("groff")
	for name, words := range map[string][]string{
		"fusillade":                {`fusillade \- Pushes`, `\fBbatches\fR`, `\fBrun\fR`, `\-\-quiet`},
		"fusillade-batches":        {`\fBcreate\fR`, "SEE ALSO"},
		"fusillade-batches-create": {`\-\-completion\-window=TIME`, ".BR fusillade\\-batches (1)", "FILE|"},
		"fusillade-run":            {`\-o, \-\-output=FILE`},
	} {
		path := filepath.Join(dir, name+".1")
		page, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, word := range words {
			if !strings.Contains(string(page), word) {
				t.Errorf("%s lacks %q:\n%s", name, word, page)
			}
		}
		if groff == "" {
			continue
		}
		out, err := exec.CommandContext(t.Context(), groff, "-man", "-Tascii", "-ww", "-z", path).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("groff on %s: %v\n%s", name, err, out)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if strings.Contains(entry.Name(), "complete") || strings.Contains(entry.Name(), "users") || strings.Contains(entry.Name(), "retry") {
			t.Errorf("a hidden command has the page %s", entry.Name())
		}
	}
	if page := must(t, "man"); !strings.HasPrefix(page, ".TH FUSILLADE 1") {
		t.Errorf("printed:\n%s", page)
	}
}
