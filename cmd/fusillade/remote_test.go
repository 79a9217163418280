package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/mock"
)

// must runs a command that must succeed, and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errOut := command(t, args...)
	if code != 0 {
		t.Fatalf("fusillade %s: exit code %d:\n%s", strings.Join(args, " "), code, errOut)
	}
	return strings.TrimSpace(out)
}

// refuses runs a command that must end with this exit code and name these
// words.
func refuses(t *testing.T, want int, words []string, args ...string) {
	t.Helper()
	code, out, errOut := command(t, args...)
	if code != want || out != "" {
		t.Errorf("fusillade %s: exit code %d, want %d; printed %q", strings.Join(args, " "), code, want, out)
	}
	for _, word := range words {
		if !strings.Contains(errOut, word) {
			t.Errorf("fusillade %s: the message does not name %q:\n%s", strings.Join(args, " "), word, errOut)
		}
	}
}

// jsonMember is a member of an object.
func jsonMember(t *testing.T, raw, name string) any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(raw), &object); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return object[name]
}

// Who uploads a file is told what it asks for, beside the id, which scripts read.
func TestUploadsAreSurveyed(t *testing.T) {
	t.Setenv("FUSILLADE_MODEL_PRICES", "gpt-*=1/2")
	newServer(t, nil)
	in := write(t, "in.jsonl", goodLines(3)+line("x", `{"model":"llama","max_tokens":10,"messages":[]}`))
	want := []string{"in.jsonl: 4 requests of 2 models, about ", " prompt tokens and at most 1546 for answers, 2 repeated bodies, cost at most 0.00", " without 1 model that has no price\n"}
	for _, args := range [][]string{{"files", "upload", in}, {"batches", "create", in}} {
		code, out, errOut := command(t, args...)
		if code != 0 || strings.Count(out, "\n") != 1 {
			t.Errorf("%v: exit code %d:\n%s", args, code, out)
		}
		for _, text := range want {
			if !strings.Contains(errOut, text) {
				t.Errorf("%v: lacks %q:\n%s", args, text, errOut)
			}
		}
		if _, _, errOut := command(t, append(args, "--json")...); errOut != "" {
			t.Errorf("%v --json: %s", args, errOut)
		}
	}
}

func TestFiles(t *testing.T) {
	newServer(t, nil)
	in := write(t, "in.jsonl", goodLines(2500))
	first := must(t, "files", "upload", in, "--expires-after", "2h")
	second := must(t, "files", "upload", in, "--name", "other name.jsonl", "--json")
	if got := jsonMember(t, second, "filename"); got != "other name.jsonl" {
		t.Errorf("uploaded as %v", got)
	}
	object := must(t, "files", "get", first, "--json")
	if expires, created := jsonMember(t, object, "expires_at").(float64), jsonMember(t, object, "created_at").(float64); expires != created+7200 {
		t.Errorf("it expires %v s after its creation, want 7200", expires-created)
	}
	if got := must(t, "files", "get", first); !strings.Contains(got, first) || !strings.Contains(got, "in.jsonl") {
		t.Errorf("get shows\n%s", got)
	}
	for _, want := range []string{"2500 requests of 1 model", "2499 repeated bodies", "longest prompt"} {
		if got := must(t, "files", "get", first); !strings.Contains(got, want) {
			t.Errorf("get lacks %q:\n%s", want, got)
		}
	}
	table := strings.Split(must(t, "files", "ls"), "\n")
	if len(table) != 3 || !strings.HasPrefix(table[0], "ID") || !strings.HasPrefix(table[2], first) {
		t.Errorf("ls lists\n%s", strings.Join(table, "\n"))
	}
	if lines := strings.Split(must(t, "files", "ls", "--json", "--limit", "1"), "\n"); len(lines) != 1 || jsonMember(t, lines[0], "filename") != "other name.jsonl" {
		t.Errorf("the newest is %v", lines)
	}

	out := filepath.Join(t.TempDir(), "out.jsonl")
	must(t, "files", "content", first, "-o", out)
	whole, err := os.ReadFile(out)
	if err != nil || strings.Count(string(whole), "\n") != 2500 {
		t.Errorf("%d lines, %v", strings.Count(string(whole), "\n"), err)
	}
	if rest := must(t, "files", "content", first, "--offset", "2499"); !strings.Contains(rest, `"r2499"`) || strings.Contains(rest, "\n") {
		t.Errorf("the last line is %s", rest)
	}
	must(t, "files", "delete", first)
	refuses(t, cli.ExitFailed, []string{"No such", first}, "files", "get", first)
	refuses(t, cli.ExitFailed, []string{first}, "files", "content", first, "-o", out+"2")
	if _, err := os.Stat(out + "2"); err == nil {
		t.Error("a file was written that is not there")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".fusillade-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	refuses(t, cli.ExitFailed, []string{"line 1"}, "files", "upload", write(t, "bad.jsonl", "oops\n"))
	refuses(t, cli.ExitUsage, []string{"file-1"}, "files", "get", "file-1")
	refuses(t, cli.ExitUsage, []string{"no-such-file"}, "files", "upload", "no-such-file")
	refuses(t, cli.ExitUsage, []string{"--limit"}, "files", "ls", "--limit=-1")
	refuses(t, cli.ExitUsage, []string{"--expires-after"}, "files", "upload", in, "--expires-after", "soon")
}

// The life of a batch: created, watched, read, retried, deleted.
func TestBatches(t *testing.T) {
	newServer(t, &mock.Settings{Errors: "400=0.3"})
	const n = 120
	in := write(t, "in.jsonl", goodLines(n))
	code, out, errOut := command(t, "batches", "create", "-i", in, "--window", "2h", "--metadata", "night=shift", "--watch")
	id := strings.TrimSpace(out)
	if code != cli.ExitFailed || !strings.Contains(errOut, "completed: ") || !strings.Contains(errOut, "did not complete") {
		t.Errorf("exit code %d, want %d for failed requests:\n%s", code, cli.ExitFailed, errOut)
	}
	object := must(t, "batches", "get", id, "--json")
	counts := jsonMember(t, object, "request_counts").(map[string]any)
	completed, failed := int(counts["completed"].(float64)), int(counts["failed"].(float64))
	if completed+failed != n || failed == 0 || jsonMember(t, object, "completion_window") != "2h" || jsonMember(t, object, "endpoint") != "/v1/chat/completions" {
		t.Errorf("the batch is %s", object)
	}
	shown := must(t, "batches", "get", id)
	for _, want := range []string{id, "completed", fmt.Sprintf("%d of %d completed, %d failed", completed, n, failed), "night", "shift"} {
		if !strings.Contains(shown, want) {
			t.Errorf("get does not show %q:\n%s", want, shown)
		}
	}
	results := filepath.Join(t.TempDir(), "out.jsonl")
	failures := strings.TrimSuffix(results, ".jsonl") + ".errors.jsonl"
	refuses(t, cli.ExitFailed, []string{failures, fmt.Sprint(failed)}, "batches", "results", id, "-o", results)
	if lineCount(t, results) != completed || lineCount(t, failures) != failed {
		t.Errorf("%d results and %d errors, want %d and %d", lineCount(t, results), lineCount(t, failures), completed, failed)
	}
	refuses(t, cli.ExitFailed, []string{"already completed"}, "batches", "cancel", id)

	second := must(t, "batches", "create", in, "--json")
	secondID := jsonMember(t, second, "id").(string)
	third := must(t, "batches", "create", "--file-id", jsonMember(t, second, "input_file_id").(string))
	for _, id := range []string{secondID, third} {
		command(t, "batches", "watch", id)
	}
	table := strings.Split(must(t, "batches", "ls"), "\n")
	if len(table) != 4 || !strings.HasPrefix(table[1], third) || !strings.HasPrefix(table[3], id) {
		t.Errorf("ls lists\n%s", strings.Join(table, "\n"))
	}
	for _, list := range []string{"batches", "models", "daemons"} {
		for _, line := range strings.Split(must(t, list, "ls"), "\n") {
			if len(line) > 80 {
				t.Errorf("%s ls: %d columns: %s", list, len(line), line)
			}
		}
	}
	for filter, want := range map[string]int{"completed": 3, "failed": 0, "expired,completed": 3, "in_progress,cancelling,cancelled": 0} {
		list := must(t, "batches", "ls", "--json", "--status", filter) + must(t, "batches", "ls", "--json", "--status=expired", "--status="+filter)
		if got := strings.Count(list, `"completion_window"`); got != 2*want {
			t.Errorf("--status %s, and with another, list %d, want %d each", filter, got, want)
		}
	}
	refuses(t, cli.ExitUsage, []string{"--status", `"in_progress"`, `"cancelled"`, `"done"`}, "batches", "ls", "--status", "failed,done")
	must(t, "batches", "delete", third)
	refuses(t, cli.ExitFailed, []string{third}, "batches", "watch", third)
}

// Single requests and whole batches are cancelled, and retried.
func TestCancelAndRetry(t *testing.T) {
	newServer(t, nil) // and nothing is called
	id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(10)))
	must(t, "batches", "cancel", id, "--line", "3", "--line", "5")
	refuses(t, cli.ExitFailed, []string{"had ended", "line 3"}, "batches", "cancel", id, "--line", "3")
	refuses(t, cli.ExitFailed, []string{"lines"}, "batches", "cancel", id, "--line", "11")
	must(t, "batches", "retry", id, "--line", "5")
	out := filepath.Join(t.TempDir(), "out.jsonl")
	refuses(t, cli.ExitFailed, []string{"goes on", "1 request did not complete"}, "batches", "results", id, "-o", out)
	if shown := must(t, "batches", "cancel", id); !strings.Contains(shown, "cancelled") {
		t.Errorf("cancel shows\n%s", shown)
	}
	code, printed, _ := command(t, "batches", "watch", id, "--json")
	if code != cli.ExitFailed || jsonMember(t, printed, "status") != "cancelled" {
		t.Errorf("exit code %d of watching a cancelled batch, want %d: %s", code, cli.ExitFailed, printed)
	}
	refuses(t, cli.ExitFailed, []string{"no request in these states"}, "batches", "rerun", id)
	if again := must(t, "batches", "rerun", id, "--canceled", "--json"); jsonMember(t, again, "status") != "in_progress" {
		t.Errorf("retried: %s", again)
	}
	for _, args := range [][]string{
		{"cancel", "batch_1"}, {"retry", "nonsense"}, {"watch", "file-1"}, {"rerun", id, "--line", "1", "--failed"}, {"retry", id, "--line", "x"},
		{"create"}, {"create", out, "-i", out}, {"create", out, "--window", "soon"}, {"create", "--file-id", "x"}, {"results", id},
	} {
		refuses(t, cli.ExitUsage, nil, append([]string{"batches"}, args...)...)
	}
}

// The key comes from the environment, and what is missing is said.
func TestServerAndKey(t *testing.T) {
	var authorization string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if authorization = r.Header.Get("Authorization"); authorization == "" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":{"message":"No key.","type":"t","param":null,"code":null}}`))
			return
		}
		_, _ = w.Write([]byte(`{"object":"list","data":[],"has_more":false}`))
	}))
	t.Cleanup(server.Close)
	refuses(t, cli.ExitFailed, []string{"No key.", "FUSILLADE_API_KEY"}, "files", "ls", "--server", server.URL)
	t.Setenv("FUSILLADE_API_KEY", "fsl-secret")
	must(t, "files", "ls", "--server", server.URL+"/v1/")
	if authorization != "Bearer fsl-secret" {
		t.Errorf("sent %q", authorization)
	}
	_, refusing := taken(t)
	refuses(t, cli.ExitFailed, []string{refusing, "refused"}, "batches", "ls", "--server", "http://"+refusing)
	refuses(t, cli.ExitUsage, []string{"--server"}, "batches", "ls", "--server", "ftp://x")
	t.Setenv("FUSILLADE_SERVER", "nonsense")
	refuses(t, cli.ExitUsage, []string{"FUSILLADE_SERVER"}, "files", "ls")
}

// What a server says is printed without what a terminal would act on.
func TestNothingActsOnTheTerminal(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":[{"id":"file-1","filename":"a\u001b[2Jb\tc"}]}`))
	}))
	t.Cleanup(server.Close)
	if out := must(t, "files", "ls", "--server", server.URL); bytes.ContainsAny([]byte(out), "\x1b\t") || !strings.Contains(out, "a") {
		t.Errorf("printed %q", out)
	}
}

// Where keys are asked for, an operator's opens what is for operators, and
// another shows the models that its owner may use.
func TestOperatorsKey(t *testing.T) {
	t.Setenv("FUSILLADE_API_AUTH", "keys")
	newServer(t, nil)
	key := func(args ...string) string {
		return must(t, append([]string{"keys", "create", "--owner", "alice"}, args...)...)
	}
	ordinary, operator := key(), key("--admin")
	if list := strings.Split(must(t, "keys", "ls"), "\n"); len(list) != 3 || strings.Contains(list[1], "yes") || !strings.Contains(list[2], "yes") {
		t.Errorf("keys ls lists\n%s", strings.Join(list, "\n"))
	}
	refuses(t, cli.ExitFailed, []string{"FUSILLADE_API_KEY"}, "models", "ls")
	t.Setenv("FUSILLADE_API_KEY", ordinary)
	must(t, "files", "upload", write(t, "in.jsonl", goodLines(1)))
	if got := must(t, "models", "ls"); got != "MODEL\ngpt-4" {
		t.Errorf("models ls lists\n%s", got)
	}
	for _, args := range [][]string{{"models", "pause", "gpt-4"}, {"daemons", "ls"}} {
		refuses(t, cli.ExitFailed, []string{"Only operators"}, args...)
	}
	t.Setenv("FUSILLADE_API_KEY", operator)
	names := []string{"a/../b%2F", "gpt-4", "org/m 1:free"}
	for _, name := range names {
		must(t, "models", "pause", name)
	}
	var paused []string
	for line := range strings.Lines(must(t, "models", "ls", "--json")) {
		var model struct {
			ID     string
			Paused bool
		}
		if err := json.Unmarshal([]byte(line), &model); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if model.Paused {
			paused = append(paused, model.ID)
		}
	}
	if !slices.Equal(paused, names) {
		t.Errorf("paused are %q, want %q", paused, names)
	}
}

// A batch brings a key of its own, and brings it again when it is retried after
// its end.
func TestBatchHasItsOwnKey(t *testing.T) {
	t.Setenv("FUSILLADE_ENCRYPTION_KEY", strings.Repeat("a1", 32))
	t.Setenv("TENANT_KEY", "sk-tenant")
	r := newServer(t, nil)
	keys := func() int {
		t.Helper()
		all, err := r.Store.BatchKeys(t.Context(), batch.ID{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(3)), "--api-key-env", "TENANT_KEY")
	if n := keys(); n != 1 {
		t.Errorf("%d keys are stored, want 1", n)
	}
	must(t, "batches", "cancel", id)
	refuses(t, cli.ExitFailed, []string{"key"}, "batches", "rerun", id, "--canceled")
	must(t, "batches", "rerun", id, "--canceled", "--api-key-env", "TENANT_KEY")
	if n := keys(); n != 1 {
		t.Errorf("%d keys are stored after the retry, want 1", n)
	}
	must(t, "batches", "cancel", id)
	must(t, "batches", "rerun", id, "--line", "2", "--api-key-env", "TENANT_KEY")
	for _, args := range [][]string{{"create", "in.jsonl"}, {"retry", id}} {
		refuses(t, cli.ExitUsage, []string{"NO_SUCH_KEY"}, append(append([]string{"batches"}, args...), "--api-key-env", "NO_SUCH_KEY")...)
	}
}
