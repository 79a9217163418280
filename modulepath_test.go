package fusillade_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A copy of the module with another path builds, and knows the old one nowhere.
func TestModulePath(t *testing.T) {
	t.Parallel()
	copied := t.TempDir()
	if err := os.CopyFS(copied, sources{os.DirFS(".")}); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(copied)
	if err != nil {
		t.Fatal(err)
	}
	run := func(dir string, command ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", command, err, out)
		}
		return string(out)
	}
	const to = "example.com/you/engine"
	run(filepath.Join("tools", "modulepath"), "go", "run", ".", "-root", root, to)
	for _, path := range strings.Fields(run(copied, "go", "list", "-f", `{{join .Imports "\n"}}{{"\n"}}{{join .TestImports "\n"}}{{"\n"}}{{join .XTestImports "\n"}}`, "./...")) {
		if path == "fusillade" || strings.HasPrefix(path, "fusillade/") {
			t.Errorf("%s is imported still", path)
		}
	}
	run(copied, "go", "build", "-buildvcs=false", "./client", "./internal/config")
	for file, want := range map[string]string{
		"go.mod": "module " + to, "api.txt": `import "` + to + `/client"`, ".golangci.yml": "pkg: " + to + "/internal/config", "tools/go.mod": "module " + to + "/tools",
	} {
		text, err := os.ReadFile(filepath.Join(copied, file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %q", file, want)
		}
	}
}

// sources is the tree without what is built and what git keeps.
type sources struct{ fs.FS }

// ReadDir implements fs.ReadDirFS.
func (s sources) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return e.Name() == ".git" || e.Name() == "build" || !e.IsDir() && !e.Type().IsRegular()
	}), err
}
