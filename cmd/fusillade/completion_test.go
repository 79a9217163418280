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
		"a list's value":      {"batches ls --status c", "cancelled cancelling completed", "failed"},
		"a list's next value": {"batches ls --status failed,expired,", "failed,expired,cancelled failed,expired,in_progress", "failed,expired,failed"},
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

// Names of what a server has are completed, of the kind that stands there; where
// nothing can be asked nothing is offered.
func TestNamesAreCompleted(t *testing.T) {
	newServer(t, nil)
	id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(1)))
	file := jsonMember(t, must(t, "batches", "get", id, "--json"), "input_file_id").(string)
	for words, want := range map[string]string{
		"batches get ":                   id,
		"batches get batch_":             id,
		"batches get file":               "",
		"batches get " + id + " ":        "",
		"batches watch -q ":              id,
		"batches create --file-id ":      file,
		"files content " + file[:8]:      file,
		"models pause g":                 "gpt-4",
		"models set gpt-4 --escalate-to": "--escalate-to",
		"models lift gpt-4 --batch ":     id,
	} {
		if got := must(t, append([]string{"complete", "--"}, strings.Split(words, " ")...)...); got != want {
			t.Errorf("%q: offered %q, want %q", words, got, want)
		}
	}
	t.Setenv("FUSILLADE_SERVER", "http://127.0.0.1:1")
	if got := must(t, "complete", "--", "batches", "get", ""); got != "" {
		t.Errorf("without a server: %q", got)
	}
	if got := must(t, "complete", "--", "batches", "get", "--server", "nonsense", ""); got != "" {
		t.Errorf("with a bad address: %q", got)
	}
}

// Each shell that there is takes its script; bash and fish complete a subcommand
// with it.
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
	completes := func(name string, args ...string) {
		t.Helper()
		try := exec.CommandContext(t.Context(), name, args...)
		try.Env = append(os.Environ(), "PATH="+dir+string(os.PathListSeparator)+os.Getenv("PATH"))
		if out, err := try.CombinedOutput(); err != nil || string(out) != "rerun\nresults\n" {
			t.Errorf("%s completes to %q, %v", name, out, err)
		}
	}
	completes(bash, "--noprofile", "--norc", "-c", cli.CompletionScripts["bash"]+`
COMP_WORDS=(fusillade batches re); COMP_CWORD=2; _fusillade fusillade
printf '%s\n' "${COMPREPLY[@]}"`)
	if fish, err := exec.LookPath("fish"); err == nil {
		completes(fish, "--no-config", "-c", cli.CompletionScripts["fish"]+`complete -C "fusillade batches re"`)
	}
}
