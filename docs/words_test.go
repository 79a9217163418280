package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// A retiredWord is a line of retired-words.txt.
type retiredWord struct {
	words   []string       // one after the other, in lower case
	pattern *regexp.Regexp // slow: looked for only where the first word is
	advice  string
}

// TestRetiredWords keeps words out of identifiers, comments, messages and
// documentation that the glossary has another word for.
func TestRetiredWords(t *testing.T) {
	t.Parallel()
	inGo, inText := retiredWords(t)
	for _, path := range sources(t, ".go") {
		checkGo(t, path, inGo, inText)
	}
	for _, path := range sources(t, ".md") {
		for i, line := range prose(read(t, path)) {
			checkText(t, path, i+1, line, inText)
		}
	}
}

func retiredWords(t *testing.T) (inGo, inText []retiredWord) {
	t.Helper()
	for i, line := range strings.Split(read(t, "docs/retired-words.txt"), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 4 {
			t.Fatalf("retired-words.txt:%d: want scope | word | instead | reason", i+1)
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		word := retiredWord{
			words:   strings.Fields(strings.ToLower(fields[1])),
			pattern: regexp.MustCompile(`(?i)\b` + strings.ReplaceAll(regexp.QuoteMeta(fields[1]), " ", `\s+`) + `\b`),
			advice:  strconv.Quote(fields[1]) + " is retired; write: " + fields[2] + " (" + fields[3] + ")",
		}
		switch fields[0] {
		case "go":
			inGo = append(inGo, word)
		case "text":
			inText = append(inText, word)
		default:
			t.Fatalf("retired-words.txt:%d: the scope is %q", i+1, fields[0])
		}
	}
	return inGo, inText
}

// checkGo looks at the names that a file declares, its comments, and its
// strings that read like messages. Metrics as they are exposed are none: their
// labels are an interface.
func checkGo(t *testing.T, path string, inGo, inText []retiredWord) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, filepath.Join(root, path), nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	line := func(node ast.Node) int { return set.Position(node.Pos()).Line }
	declared := func(names ...*ast.Ident) {
		for _, name := range names {
			parts := splitIdentifier(name.Name)
			for _, word := range inGo {
				if containsRun(parts, word.words) {
					t.Errorf("%s:%d: %s: %s", path, line(name), name.Name, word.advice)
				}
			}
		}
	}
	declared(file.Name)
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			declared(node.Name)
		case *ast.TypeSpec:
			declared(node.Name)
		case *ast.ValueSpec:
			declared(node.Names...)
		case *ast.Field:
			declared(node.Names...)
		case *ast.AssignStmt:
			if node.Tok == token.DEFINE {
				for _, left := range node.Lhs {
					if name, ok := left.(*ast.Ident); ok {
						declared(name)
					}
				}
			}
		case *ast.RangeStmt:
			if node.Tok == token.DEFINE {
				for _, left := range []ast.Expr{node.Key, node.Value} {
					if name, ok := left.(*ast.Ident); ok {
						declared(name)
					}
				}
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(node.Value); node.Kind == token.STRING && err == nil && strings.Contains(text, " ") && !strings.Contains(text, "fusillade_") {
				checkText(t, path, line(node), withoutCode(text), inText)
			}
		}
		return true
	})
	for _, group := range file.Comments {
		checkText(t, path, line(group), withoutCode(group.Text()), inText)
	}
}

func checkText(t *testing.T, path string, line int, text string, inText []retiredWord) {
	t.Helper()
	lower := strings.ToLower(text)
	for _, word := range inText {
		if strings.Contains(lower, word.words[0]) && word.pattern.MatchString(text) {
			t.Errorf("%s:%d: %s", path, line, word.advice)
		}
	}
}

// splitIdentifier returns the words of an identifier in lower case: URLOfBatch
// is url, of, batch.
func splitIdentifier(name string) (words []string) {
	letters := []rune(name)
	start := 0
	for i := range letters {
		upper := unicode.IsUpper(letters[i])
		switch {
		case letters[i] == '_':
			words, start = append(words, string(letters[start:i])), i+1
		case i > start && upper && !unicode.IsUpper(letters[i-1]),
			i > start && upper && i+1 < len(letters) && unicode.IsLower(letters[i+1]):
			words, start = append(words, string(letters[start:i])), i
		}
	}
	words = append(words, string(letters[start:]))
	for i := range words {
		words[i] = strings.ToLower(words[i])
	}
	return words
}

func containsRun(words, run []string) bool {
	for i := range words {
		if i+len(run) <= len(words) && slices.Equal(words[i:i+len(run)], run) {
			return true
		}
	}
	return false
}

func TestSplitIdentifier(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"keepUp": {"keep", "up"}, "URLOfBatch": {"url", "of", "batch"}, "batchID": {"batch", "id"},
		"snake_case": {"snake", "case"}, "i": {"i"}, "_": {"", ""}, "Test_Fate2": {"test", "fate2"},
	} {
		if got := splitIdentifier(name); !slices.Equal(got, want) {
			t.Errorf("splitIdentifier(%q) = %q, want %q", name, got, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
