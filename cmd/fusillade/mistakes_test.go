package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fusillade/internal/cli"
)

// Who mistypes something is told what is wrong, and what to write instead.
func TestMistakes(t *testing.T) {
	newServer(t, nil)
	for name, c := range map[string]struct {
		server string // FUSILLADE_SERVER; empty: the one that works
		args   []string
		code   int
		words  []string
	}{
		"server without a scheme":  {"127.0.0.1:8080", []string{"batches", "ls"}, cli.ExitUsage, []string{"FUSILLADE_SERVER", "http://"}},
		"server with another path": {"$/ui", []string{"batches", "ls"}, cli.ExitFailed, []string{"404", "/ui a fusillade server?"}},
		"no server there":          {"http://127.0.0.1:1", []string{"batches", "ls"}, cli.ExitFailed, []string{"127.0.0.1:1", "fusillade serve", "FUSILLADE_SERVER"}},
		"no id of a batch":         {"", []string{"batches", "get", "file-x"}, cli.ExitUsage, []string{"file-x", "batch_ and 32"}},
		"no id of a file":          {"", []string{"files", "get", "x"}, cli.ExitUsage, []string{"file- and 32"}},
		"a file that is not there": {"", []string{"batches", "create", "nosuch.jsonl"}, cli.ExitUsage, []string{"open nosuch.jsonl"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.server != "" {
				t.Setenv("FUSILLADE_SERVER", strings.ReplaceAll(c.server, "$", os.Getenv("FUSILLADE_SERVER")))
			}
			refuses(t, c.code, c.words, c.args...)
		})
	}
	t.Run("empty server", func(t *testing.T) {
		t.Setenv("FUSILLADE_SERVER", "")
		refuses(t, cli.ExitUsage, []string{"FUSILLADE_SERVER is empty"}, "batches", "ls")
	})
	t.Run("a model that nothing is known of", func(t *testing.T) {
		must(t, "batches", "create", write(t, "in.jsonl", goodLines(1)))
		if _, _, errOut := command(t, "models", "pause", "gpt-4"); errOut != "" {
			t.Errorf("pausing a model that has work says %q", errOut)
		}
		if code, _, errOut := command(t, "models", "pause", "gtp-4"); code != 0 || !strings.Contains(errOut, "is that its name?") {
			t.Errorf("exit code %d: %s", code, errOut)
		}
	})
	t.Run("a line that is not there", func(t *testing.T) {
		id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(3)))
		refuses(t, cli.ExitFailed, []string{"lines has 41, which is no line of the file"}, "batches", "cancel", id, "--line", "2", "--line", "41")
	})
	t.Run("no data directory", func(t *testing.T) {
		t.Setenv("FUSILLADE_DATABASE_URL", "")
		for _, args := range [][]string{{"keys", "ls"}, {"jobs", "ls"}, {"jobs", "rm", "--finished"}} {
			refuses(t, cli.ExitUsage, []string{"no data directory", "--data-dir"}, append(args, "--data-dir", filepath.Join(t.TempDir(), "none"))...)
		}
	})
	t.Run("a file without requests", func(t *testing.T) {
		if code, _, errOut := command(t, "check", write(t, "empty.jsonl", "")); code != cli.ExitUsage || strings.Contains(errOut, "bad line") {
			t.Errorf("exit code %d: %s", code, errOut)
		}
		if out := must(t, "check", write(t, "one.jsonl", goodLines(1))); !strings.Contains(out, ": 1 request, ") {
			t.Errorf("one request is shown as\n%s", out)
		}
	})
}
