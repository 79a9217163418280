// Package docs holds what people read, and tests that keep it true: its words,
// its links, and the names in it of settings, metrics, routes and files.
package docs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// root is the module's directory, as tests of this package see it.
const root = ".."

// sources lists the files of the repository that end in the extension.
func sources(t *testing.T, extension string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			switch base := entry.Name(); {
			case base == "build", base == "testdata", base == "node_modules", base != root && strings.HasPrefix(base, "."):
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, extension) {
			name, err = filepath.Rel(root, name)
			paths = append(paths, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

var codeSpan = regexp.MustCompile("(``[^`]+``|`[^`\n]+`)")

// withoutCode blanks what is in backquotes.
func withoutCode(text string) string { return codeSpan.ReplaceAllString(text, "`code`") }

// prose returns the lines of a document, with code blanked.
func prose(document string) []string {
	lines := strings.Split(document, "\n")
	fenced := false
	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence || fenced || strings.HasPrefix(line, "    ") {
			lines[i] = ""
		} else {
			lines[i] = withoutCode(line)
		}
		fenced = fenced != fence
	}
	return lines
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks follows every link to a file of the repository, and every anchor.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, document := range sources(t, ".md") {
		for i, line := range prose(read(t, document)) {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				target, anchor, _ := strings.Cut(match[1], "#")
				if strings.Contains(target, ":") {
					continue // elsewhere
				}
				file := document
				if target != "" {
					file = path.Join(path.Dir(document), target)
				}
				if _, err := os.Stat(filepath.Join(root, file)); err != nil {
					t.Errorf("%s:%d: the link to %s leads nowhere", document, i+1, match[1])
					continue
				}
				if anchor != "" && !anchors(read(t, file))[anchor] {
					t.Errorf("%s:%d: %s has no heading #%s", document, i+1, file, anchor)
				}
			}
		}
	}
}

// anchors returns the anchors that GitHub makes of a document's headings.
func anchors(document string) map[string]bool {
	found := map[string]bool{}
	fenced := false
	for line := range strings.Lines(document) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		heading := strings.TrimLeft(line, "#")
		if fenced || heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		found[anchor(heading)] = true
	}
	return found
}

func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}

func TestAnchor(t *testing.T) {
	t.Parallel()
	for heading, want := range map[string]string{
		"Build and test": "build-and-test", "What differs from OpenAI's": "what-differs-from-openais",
		"`/readyz`, and why": "readyz-and-why", "Start, stop, scale": "start-stop-scale",
	} {
		if got := anchor(heading); got != want {
			t.Errorf("anchor(%q) = %q, want %q", heading, got, want)
		}
	}
}
