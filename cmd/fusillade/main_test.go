package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fusillade/internal/cli"
	"fusillade/internal/testenv"
)

// TestMain runs the tests; or the program itself, for a test that needs it as
// another process.
func TestMain(m *testing.M) {
	if os.Getenv("FUSILLADE_TEST_COMMAND") != "" {
		main()
	}
	testenv.Main(m)
}

// line is one request of an input file.
func line(customID, body string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", customID, body)
}

const goodBody = `{"model":"gpt-4","messages":[{"role":"user","content":"hello"}]}`

func goodLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(line(fmt.Sprintf("r%d", i), goodBody))
	}
	return b.String()
}

// command runs the program in this process.
func command(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(args, &o, &e)
	return code, o.String(), e.String()
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// taken returns an address that is in use, and one that refuses connections.
func taken(t *testing.T) (inUse, refusing string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing = gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String(), refusing
}

// What cannot be run is refused with exit code 2 and a message that names what
// is wrong, before anything is called and with nothing left behind.
func TestBadUseAndBadInput(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", testenv.DatabaseURL(t))
	inUse, refusing := taken(t)
	good := write(t, "good.jsonl", goodLines(3))
	tests := []struct {
		name string
		args []string // beside -o and --data-dir
		want []string // in the message
	}{
		{"no input", []string{"--mock"}, []string{"--input"}},
		{"missing file", []string{"--mock", "-i", "no-such-file.jsonl"}, []string{"open no-such-file.jsonl"}},
		{"directory", []string{"--mock", "-i", t.TempDir()}, []string{"is a directory"}},
		{"empty file", []string{"--mock", "-i", write(t, "empty.jsonl", "")}, []string{"empty.jsonl", "has no request"}},
		{"bad JSON", []string{"--mock", "-i", write(t, "bad.jsonl", goodLines(6)+"{oops\n")}, []string{"line 7", "not valid JSON"}},
		{"all bad lines", []string{"--mock", "-i", write(t, "bad.jsonl", "{oops\n"+goodLines(2)+line("x", `{}`))},
			[]string{"line 1", "line 4", "body.model"}},
		{"duplicate custom_id", []string{"--mock", "-i", write(t, "dup.jsonl", goodLines(2)+goodLines(1))}, []string{"line 3", "line 1", `"r0"`}},
		{"no model", []string{"--mock", "-i", write(t, "model.jsonl", line("x", `{"messages":[]}`))}, []string{"line 1", "body.model"}},
		{"body over the limit", []string{"--mock", "-i", write(t, "large.jsonl",
			line("x", `{"model":"m","x":"`+strings.Repeat("x", 10<<20)+`"}`))}, []string{"line 1", "longer than 10485760 bytes"}},
		{"no upstream", []string{"-i", good}, []string{"--upstream"}},
		{"refusing upstream", []string{"-i", good, "--upstream", "http://" + refusing}, []string{refusing, "connection refused"}},
		{"bad upstream", []string{"-i", good, "--upstream", "ftp://x"}, []string{"--upstream"}},
		{"upstream without a scheme", []string{"-i", good, "--upstream", "127.0.0.1:8000"}, []string{"127.0.0.1:8000 is not a URL", "http://127.0.0.1:8000"}},
		{"two inputs", []string{"--mock", good, "-i", good}, []string{"FILE", "--input"}},
		{"no requests", []string{"--mock", os.DevNull}, []string{os.DevNull + " was refused"}},
		{"output is the input", []string{"--mock", good, "-o", good}, []string{"--output", "input"}},
		{"errors are the input", []string{"--mock", good, "--errors", good}, []string{"--errors", "input"}},
		{"anew and again", []string{"--mock", good, "--again", "--rerun-failed"}, []string{"--again"}},
		{"both upstreams", []string{"-i", good, "--upstream", "http://x", "--mock"}, []string{"--mock and --upstream"}},
		{"unset key", []string{"-i", good, "--upstream", "http://" + inUse, "--api-key-env", "NO_SUCH_KEY"}, []string{"NO_SUCH_KEY"}},
		{"no concurrency", []string{"--mock", "-i", good, "--concurrency", "0"}, []string{"--concurrency"}},
		{"bad limits", []string{"--mock", "-i", good, "--concurrency", "m=x"}, []string{"--concurrency"}},
		{"bad window", []string{"--mock", "-i", good, "--completion-window", "soon"}, []string{"--completion-window"}},
		{"port in use", []string{"--mock", "-i", good, "--nats-listen", inUse}, []string{inUse, "in use"}},
		{"unknown flag", []string{"--mock", "-i", good, "--no-such-flag"}, []string{"--no-such-flag"}},
		{"output in no directory", []string{"--mock", "-i", good, "-o", filepath.Join(t.TempDir(), "no", "out.jsonl")}, []string{"--output"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out.jsonl")
			args := append([]string{"run", "--data-dir", t.TempDir(), "-o", out}, test.args...)
			code, _, message := command(t, args...)
			if code != cli.ExitUsage {
				t.Errorf("exit code %d, want %d", code, cli.ExitUsage)
			}
			for _, want := range test.want {
				if !strings.Contains(message, want) {
					t.Errorf("the message does not name %q:\n%s", want, message)
				}
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("an output was written")
			}
		})
	}
}

func TestBadSettingsAreAllNamed(t *testing.T) {
	t.Setenv("FUSILLADE_MAX_RETRIES", "many")
	t.Setenv("FUSILLADE_SHOULD_RETRY", "6xx")
	t.Setenv("FUSILLADE_NO_SUCH_SETTING", "1")
	code, _, message := command(t, "run", "--mock", "-i", write(t, "good.jsonl", goodLines(1)), "-o", filepath.Join(t.TempDir(), "out.jsonl"))
	if code != cli.ExitUsage {
		t.Errorf("exit code %d, want %d", code, cli.ExitUsage)
	}
	for _, want := range []string{"FUSILLADE_MAX_RETRIES", "FUSILLADE_SHOULD_RETRY", "FUSILLADE_NO_SUCH_SETTING"} {
		if !strings.Contains(message, want) {
			t.Errorf("the message does not name %s:\n%s", want, message)
		}
	}
}

// The help of a command is found whichever way it is asked for.
func TestHelp(t *testing.T) {
	for want, ways := range map[string][][]string{
		"Usage: fusillade <command>":             {{}, {"--help"}, {"help"}},
		"Usage: fusillade run [<file>]":          {{"run", "--help"}, {"help", "run"}},
		"Usage: fusillade batches rerun <batch>": {{"batches", "rerun", "--help"}, {"help", "batches", "rerun"}},
	} {
		for _, args := range ways {
			code, out, _ := command(t, args...)
			if code != 0 || !strings.Contains(out, want) {
				t.Errorf("%v: exit code %d, without %q:\n%s", args, code, want, out)
			}
		}
	}
	if code, out, _ := command(t, "version"); code != 0 || strings.TrimSpace(out) == "" {
		t.Errorf("version: exit code %d, %q", code, out)
	}
	if _, _, message := command(t, "batches", "create", "--no-such-flag"); !strings.Contains(message, "Try: fusillade batches create --help") {
		t.Errorf("a bad flag: %s", message)
	}
	if _, out, _ := command(t, "--help"); strings.Contains(out, "retry") || strings.Count(out, "\n") > 45 {
		t.Errorf("the help shows former names, or is too long:\n%s", out)
	}
}

func TestMockPortInUse(t *testing.T) {
	inUse, _ := taken(t)
	code, _, message := command(t, "mock", "--listen", inUse)
	if code != cli.ExitUsage || !strings.Contains(message, inUse) {
		t.Errorf("exit code %d, want %d; message: %s", code, cli.ExitUsage, message)
	}
}

// Exit codes and files of runs that went to their end.
func TestRun(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", testenv.DatabaseURL(t))
	in := write(t, "in.jsonl", goodLines(200))
	out := filepath.Join(t.TempDir(), "out.jsonl")
	failures := strings.TrimSuffix(out, ".jsonl") + ".errors.jsonl"
	args := []string{"run", "-i", in, "-o", out, "--data-dir", t.TempDir(), "--mock", "--mock-latency", "0s"}

	code, _, message := command(t, args...)
	if code != 0 || lineCount(t, out) != 200 {
		t.Fatalf("exit code %d, %d results, want 0 and 200:\n%s", code, lineCount(t, out), message)
	}
	if _, err := os.Stat(failures); err == nil {
		t.Error("there is an errors file without errors")
	}

	code, _, message = command(t, append(args, "--again", "--mock-errors", "400=0.3")...)
	if code != cli.ExitFailed || !strings.Contains(message, failures) {
		t.Errorf("exit code %d, want %d; the message must name %s:\n%s", code, cli.ExitFailed, failures, message)
	}
	if good, bad := lineCount(t, out), lineCount(t, failures); good+bad != 200 || bad == 0 {
		t.Errorf("%d results and %d errors, want 200 together and some errors", good, bad)
	}

	code, _, message = command(t, args...)
	if code != cli.ExitFailed || !strings.Contains(message, "was run before") {
		t.Errorf("running a finished input again: exit code %d, want %d:\n%s", code, cli.ExitFailed, message)
	}
}

// The input may be an argument, and results go to standard output alone.
func TestRunToStandardOutput(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", testenv.DatabaseURL(t))
	t.Setenv("NATS_URL", "nats://127.0.0.1:1")
	args := []string{"run", write(t, "in.jsonl", goodLines(50)), "-o", "-", "--data-dir", t.TempDir(), "--mock", "--mock-latency", "0s"}
	code, out, message := command(t, args...)
	if code != 0 || strings.Count(out, "\n") != 50 || strings.Count(out, `"custom_id":`) != 50 {
		t.Errorf("exit code %d, printed %d bytes", code, len(out))
	}
	for _, want := range []string{"50 of 50 requests completed: standard output", "NATS_URL is set and not used"} {
		if !strings.Contains(message, want) {
			t.Errorf("the messages lack %q:\n%s", want, message)
		}
	}
}

// The broker's port asks for no credentials, which it says where others can reach it.
func TestReachableBroker(t *testing.T) {
	t.Setenv("FUSILLADE_DATABASE_URL", testenv.DatabaseURL(t))
	for listen, exposed := range map[string]bool{"127.0.0.1:0": false, "localhost:0": false, ":0": true} {
		out := filepath.Join(t.TempDir(), "out.jsonl")
		code, _, message := command(t, "run", write(t, "in.jsonl", goodLines(1)), "-o", out, "--data-dir", t.TempDir(), "--mock", "--again", "--nats-listen", listen)
		if code != 0 || !strings.Contains(message, "broker: nats://") {
			t.Fatalf("exit code %d:\n%s", code, message)
		}
		if got := strings.Contains(message, "--nats-listen "+listen+" can be reached from other machines"); got != exposed {
			t.Errorf("--nats-listen %s: is it said that others can reach it: %t, want %t\n%s", listen, got, exposed, message)
		}
	}
}

// Tries with the mock endpoint do not mix with what is real.
func TestDefaultDataDir(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", "/state")
	real, err := dataDir("", false)
	if err != nil {
		t.Fatal(err)
	}
	mock, err := dataDir("", true)
	if err != nil || mock == real || !filepath.IsAbs(mock) {
		t.Errorf("%q and, with --mock, %q, %v", real, mock, err)
	}
	if same, err := dataDir("/given", true); err != nil || same != "/given" {
		t.Errorf("%q, %v", same, err)
	}
}

func lineCount(t *testing.T, path string) int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(raw, []byte("\n"))
}
