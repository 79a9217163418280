package docs

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fusillade/internal/config"
)

// variable is a setting in a document. One that ends in an underscore or an
// ellipsis stands for several.
var variable = regexp.MustCompile(`\bFUSILLADE_[A-Z0-9_]*[A-Z0-9]\b`)

// TestSettingsInDocuments finds variables that no program of ours reads.
func TestSettingsInDocuments(t *testing.T) {
	t.Parallel()
	known := config.Snapshot(new(config.Standalone))
	for _, binary := range []config.Settings{new(config.API), new(config.Client)} {
		for name := range config.Snapshot(binary) {
			known[name] = ""
		}
	}
	for _, document := range slices.Concat(sources(t, ".md"), sources(t, ".service"), []string{"compose.yaml", "Dockerfile", "deploy/alerts.yaml"}) {
		if document == "CHANGELOG.md" {
			continue // names what was removed, too
		}
		text := read(t, document)
		for _, at := range variable.FindAllStringIndex(text, -1) {
			name := text[at[0]:at[1]]
			if strings.HasPrefix(name, "FUSILLADE_TEST_") || strings.HasPrefix(text[at[1]:], "_") || strings.HasSuffix(text[:at[0]], "formerly ") {
				continue
			}
			if _, ok := known[name]; ok {
				continue
			}
			if _, ok := known[strings.TrimSuffix(name, "_FILE")]; !ok {
				t.Errorf("%s: there is no setting %s", document, name)
			}
		}
	}
}

var metric = regexp.MustCompile(`\bfusillade_[a-z_]*[a-z]\b`)

// TestMetricsInDocuments compares the metrics that documents and alert rules
// name with the table of metrics, which is generated.
func TestMetricsInDocuments(t *testing.T) {
	t.Parallel()
	_, table, _ := strings.Cut(read(t, "docs/operations.md"), "<!-- metrics: begin -->")
	table, _, found := strings.Cut(table, "<!-- metrics: end -->")
	if !found {
		t.Fatal("docs/operations.md lacks the table of metrics")
	}
	known := map[string]bool{}
	for _, name := range metric.FindAllString(table, -1) {
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			known[name+suffix] = true
		}
	}
	for _, document := range append(sources(t, ".md"), "deploy/alerts.yaml") {
		if document == "CHANGELOG.md" {
			continue
		}
		for _, name := range metric.FindAllString(read(t, document), -1) {
			if !known[name] {
				t.Errorf("%s: there is no metric %s", document, name)
			}
		}
	}
}

var (
	routeInText = regexp.MustCompile("`(GET|POST|PATCH|PUT|DELETE) (/[^` ]*)`")
	parameter   = regexp.MustCompile(`\{[^}]*\}`)
)

// TestRoutesInDocuments compares the routes that documents name with those of
// the OpenAPI document, and asks that docs/api.md has them all.
func TestRoutesInDocuments(t *testing.T) {
	t.Parallel()
	var openapi struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(read(t, "internal/api/openapi.json")), &openapi); err != nil {
		t.Fatal(err)
	}
	served, deprecated := map[string]bool{}, map[string]bool{}
	for path, methods := range openapi.Paths {
		for method, content := range methods {
			if method == "parameters" {
				continue
			}
			var operation struct {
				Deprecated bool `json:"deprecated"`
			}
			if err := json.Unmarshal(content, &operation); err != nil {
				t.Fatal(err)
			}
			route := strings.ToUpper(method) + " " + parameter.ReplaceAllString(path, "{}")
			served[route], deprecated[route] = true, operation.Deprecated
		}
	}
	listed := map[string]bool{}
	for _, document := range sources(t, ".md") {
		for _, match := range routeInText.FindAllStringSubmatch(read(t, document), -1) {
			path, _, _ := strings.Cut(match[2], "?")
			route := match[1] + " " + parameter.ReplaceAllString(path, "{}")
			if !served[route] {
				t.Errorf("%s: there is no route %s", document, route)
			}
			listed[route] = listed[route] || document == "docs/api.md"
		}
	}
	for route := range served {
		if !listed[route] && !deprecated[route] {
			t.Errorf("docs/api.md lacks the route %s", route)
		}
	}
}

// file is a path of a file in backquotes, as documents name them: from the
// root, or from internal/.
var file = regexp.MustCompile("`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+\\.(?:go|sql|md|json|jsonl|yaml|txt))`")

// TestFilesInDocuments finds names of files that are not there.
func TestFilesInDocuments(t *testing.T) {
	t.Parallel()
	for _, document := range sources(t, ".md") {
		if document == "CHANGELOG.md" {
			continue
		}
		for _, match := range file.FindAllStringSubmatch(read(t, document), -1) {
			places := []string{match[1], path.Join("internal", match[1]), path.Join(path.Dir(document), match[1])}
			if !strings.HasPrefix(match[1], "build/") && !slices.ContainsFunc(places, exists) {
				t.Errorf("%s: there is no file %s", document, match[1])
			}
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, name))
	return err == nil
}

// TestPackagesInDesign asks that the tables of "The parts" in docs/design.md name
// each folder of commands and each room of internal/ once, with what it does.
func TestPackagesInDesign(t *testing.T) {
	t.Parallel()
	named := map[string]int{}
	for _, row := range rows(t, "docs/design.md", "## The parts") {
		if len(row) != 2 || row[1] == "" {
			t.Errorf("a row of two columns is expected: %q", row)
			continue
		}
		for _, match := range folder.FindAllStringSubmatch(row[0], -1) {
			name := strings.TrimSuffix(match[1], "/")
			if !exists(name) {
				t.Errorf("docs/design.md names %s, which is not there", name)
			}
			named[name]++
		}
	}
	for _, parent := range []string{"cmd", "internal"} {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if name := path.Join(parent, entry.Name()); entry.IsDir() && named[name] != 1 {
				t.Errorf("the parts in docs/design.md name %s %d times, not once", name, named[name])
			}
		}
	}
}

var folder = regexp.MustCompile("`([a-z0-9/]+)`")

// TestWalkInDesign asks that the walk of one request goes through files and
// functions that are there, and returns to none.
func TestWalkInDesign(t *testing.T) {
	t.Parallel()
	walk := rows(t, "docs/design.md", "### The same, by file")
	if len(walk) < 2 {
		t.Fatal("docs/design.md lacks the walk of a request")
	}
	visited := map[string]bool{}
	for _, step := range walk {
		if len(step) != 4 {
			t.Errorf("a row of four columns is expected: %q", step)
			continue
		}
		name, function := strings.Trim(step[1], "`"), strings.Trim(step[2], "`")
		if visited[name] {
			t.Errorf("the walk returns to %s", name)
		}
		visited[name] = true
		if !exists(name) {
			t.Errorf("the walk goes through %s, which is not there", name)
		} else if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + regexp.QuoteMeta(function) + `[\[(]`).MatchString(read(t, name)) {
			t.Errorf("%s has no function %s", name, function)
		}
	}
}

// rows are those of the tables between a heading of a document and the next one.
func rows(t *testing.T, document, heading string) (found [][]string) {
	t.Helper()
	_, text, _ := strings.Cut(read(t, document), "\n"+heading+"\n")
	text, _, _ = strings.Cut(text, "\n#")
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		head := i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|---")
		if !strings.HasPrefix(line, "| ") || head {
			continue
		}
		row := strings.Split(strings.Trim(line, "|"), "|")
		for j := range row {
			row[j] = strings.TrimSpace(row[j])
		}
		found = append(found, row)
	}
	return found
}

// TestFailpointsInDocuments asks that docs/reliability.md has every failpoint.
func TestFailpointsInDocuments(t *testing.T) {
	t.Parallel()
	documented := read(t, "docs/reliability.md")
	points := failpoint.FindAllStringSubmatch(read(t, "internal/failpoint/point.go"), -1)
	if len(points) == 0 {
		t.Fatal("internal/failpoint/point.go names no point")
	}
	for _, point := range points {
		if !strings.Contains(documented, "| `"+point[1]+"` |") {
			t.Errorf("docs/reliability.md lacks the failpoint %s", point[1])
		}
	}
}

var failpoint = regexp.MustCompile(`Point = "([a-z_]+)"`)
