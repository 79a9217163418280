// Modulepath gives the module another path: in go.mod, in the imports of every Go
// file, in the rules of the linters and in the list of what is public. What else needs
// the path reads it from go.mod.
//
//	make module-path TO=example.com/you/fusillade
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	root := flag.String("root", ".", "the directory of go.mod")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("say the new path: make module-path TO=example.com/you/fusillade")
	}
	if err := rewrite(*root, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

var (
	moduleLine = regexp.MustCompile(`(?m)^module (\S+)$`)
	validPath  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9._~-]+)*$`)
)

func rewrite(root, to string) error {
	if !validPath.MatchString(to) {
		return fmt.Errorf("%q is no module path: want one such as example.com/you/fusillade", to)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return err
	}
	found := moduleLine.FindSubmatch(mod)
	if found == nil {
		return errors.New("go.mod has no module line")
	}
	from := string(found[1])
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "build") {
			return filepath.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		return rewriteFile(path, from, to)
	})
}

func rewriteFile(path, from, to string) error {
	var change func([]byte) ([]byte, error)
	quoted := regexp.QuoteMeta(from)
	switch name := filepath.Base(path); {
	case strings.HasSuffix(name, ".go"):
		change = func(text []byte) ([]byte, error) { return imports(path, text, from, to) }
	case name == "go.mod": // those of the tools too
		change = replacing(`(?m)^(module )`+quoted+`(/|$)`, to)
	case name == ".golangci.yml":
		change = replacing(`(- |pkg: |\[)`+quoted+`(/|$|\])`, to)
	case name == "api.txt":
		change = replacing(`(// import ")`+quoted+`(/|")`, to)
	default:
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed, err := change(text)
	if err != nil || bytes.Equal(changed, text) {
		return err
	}
	return os.WriteFile(path, changed, 0o644)
}

// replacing puts the path between what comes before it and after it, in each line.
func replacing(pattern, to string) func([]byte) ([]byte, error) {
	re := regexp.MustCompile(`(?m)` + pattern)
	return func(text []byte) ([]byte, error) { return re.ReplaceAll(text, []byte("${1}"+to+"${2}")), nil }
}

// imports rewrites the imports of a Go file, and leaves every other string alone.
func imports(path string, text []byte, from, to string) ([]byte, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, text, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	var out []byte
	last := 0
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		rest, ok := strings.CutPrefix(imported, from)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		start, end := files.Position(spec.Path.Pos()).Offset, files.Position(spec.Path.End()).Offset
		out = append(append(out, text[last:start]...), strconv.Quote(to+rest)...)
		last = end
	}
	return append(out, text[last:]...), nil
}
