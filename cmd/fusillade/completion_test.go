package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fusillade/internal/cli"
)

func TestCandidates(t *testing.T) {
	for name, tt := range map[string]struct {
		words, want string
		not         string
	}{
		"commands":            {"b", "batches bench", "files"},
		"subcommands":         {"batches ", "cancel create delete get ls rerun results watch", ""},
		"begun":               {"batches re", "rerun results", "create"},
		"flags":               {"batches create --", "--completion-window --endpoint --server --watch", "--mock"},
		"after a value":       {"files --server http://x u", "upload", ""},
		"in place of a value": {"files --server ", "", "upload"},
		"after a switch":      {"batches get --json --s", "--server", ""},
		"an enumeration":      {"completion ", "bash fish zsh", ""},
		"nothing hidden":      {"", "run serve", "complete"},
		"unknown":             {"batches create no-such", "", "create"},
	} {
		out := strings.Fields(must(t, append([]string{"complete", "--"}, strings.Split(tt.words, " ")...)...))
		for _, want := range strings.Fields(tt.want) {
			if !strings.Contains(" "+strings.Join(out, " ")+" ", " "+want+" ") {
				t.Errorf("%s: %v lacks %s", name, out, want)
			}
		}
		for _, got := range out {
			if got == tt.not || tt.want == "" {
				t.Errorf("%s: %v has %s", name, out, got)
			}
		}
	}
	refuses(t, cli.ExitUsage, []string{"bash"}, "completion", "tcsh")
}

// Each shell that there is takes its script; bash completes a subcommand with
// it.
func TestCompletionScripts(t *testing.T) {
	for shell, script := range cli.CompletionScripts {
		printed := must(t, "completion", shell)
		if printed != strings.TrimSpace(script) {
			t.Errorf("%s: printed %q", shell, printed)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		check := exec.CommandContext(t.Context(), path, "-n")
		check.Stdin = strings.NewReader(script)
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s refuses its script: %v\n%s", shell, err, out)
		}
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	dir := t.TempDir()
	// This test's own binary, as the program.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := "#!/bin/sh\nFUSILLADE_TEST_COMMAND=1 exec '" + self + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "fusillade"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	try := exec.CommandContext(t.Context(), bash, "--noprofile", "--norc", "-c", cli.CompletionScripts["bash"]+`
COMP_WORDS=(fusillade batches re); COMP_CWORD=2; _fusillade fusillade
printf '%s\n' "${COMPREPLY[@]}"`)
	try.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	out, err := try.CombinedOutput()
	if err != nil || string(out) != "rerun\nresults\n" {
		t.Errorf("bash completes to %q, %v", out, err)
	}
}
