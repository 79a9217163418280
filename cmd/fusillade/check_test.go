package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fusillade/internal/cli"
	"fusillade/internal/mock"
	"fusillade/internal/survey"
)

func TestCheck(t *testing.T) {
	t.Setenv("FUSILLADE_MODEL_PRICES", "gpt-*=1/2")
	good := write(t, "good.jsonl", goodLines(3)+line("x", `{"model":"llama","max_tokens":10,"messages":[]}`))
	out := must(t, "check", good)
	for _, want := range []string{"good.jsonl: 4 requests", "/v1/chat/completions", "gpt-4", "llama", "any length (no max_tokens): 3;", "repeat the body of an earlier one: 2;", "no price in FUSILLADE_MODEL_PRICES: 1."} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	var file survey.File
	if err := json.Unmarshal([]byte(must(t, "check", good, "--json")), &file); err != nil || file.Requests != 4 || len(file.Models) != 2 || file.Models[0].Cost == nil {
		t.Errorf("as JSON: %+v, %v", file, err)
	}
}

// Every bad line is listed, as a result.
func TestCheckListsAllBadLines(t *testing.T) {
	const n = 250
	bad := write(t, "bad.jsonl", strings.Repeat("{oops\n", n)+goodLines(1))
	code, out, errOut := command(t, "check", bad)
	if code != cli.ExitUsage || strings.Count(out, "\n") != n || !strings.Contains(out, "line 250: ") || !strings.Contains(errOut, "250 bad lines") {
		t.Errorf("exit code %d, %d lines, %s", code, strings.Count(out, "\n"), errOut)
	}
	code, out, _ = command(t, "check", bad, "--json")
	first, _, _ := strings.Cut(out, "\n")
	if code != cli.ExitUsage || jsonMember(t, first, "line") != 1.0 || jsonMember(t, first, "code") != "invalid_json" {
		t.Errorf("exit code %d, as JSON %s", code, first)
	}
}

// A dry run finds what a run would, and leaves nothing behind.
func TestDryRun(t *testing.T) {
	_, refusing := taken(t)
	good := write(t, "good.jsonl", goodLines(3))
	dir := t.TempDir()
	dry := func(args ...string) []string {
		return append([]string{"run", good, "--dry-run", "--data-dir", filepath.Join(dir, "data"), "-o", filepath.Join(dir, "out.jsonl")}, args...)
	}
	if code, out, errOut := command(t, dry("--mock")...); code != 0 || !strings.Contains(out, "3 requests") || !strings.Contains(errOut, "nothing was called") {
		t.Errorf("exit code %d:\n%s%s", code, out, errOut)
	}
	for want, args := range map[string][]string{
		"refused":  dry("--upstream", "http://"+refusing),
		"input":    {"run", good, "--dry-run", "--mock", "-o", good},
		"--output": {"run", good, "--mock"},
	} {
		if code, _, errOut := command(t, args...); code != cli.ExitUsage || !strings.Contains(errOut, want) {
			t.Errorf("%v: exit code %d, want a message with %q:\n%s", args, code, want, errOut)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestConfigCheck(t *testing.T) {
	newServer(t, &mock.Settings{})
	t.Setenv("FUSILLADE_UPSTREAM_API_KEY", "sk-secret")
	inUse, refusing := taken(t)
	t.Setenv("FUSILLADE_UPSTREAM_URL", "http://"+inUse)
	out := must(t, "config", "check")
	for _, want := range []string{"FUSILLADE_UPSTREAM_URL", "environment", "ok   postgres: version", "ok   clock", "ok   migrations", "ok   nats: version", "ok   endpoint http://" + inUse} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "sk-secret") || strings.Contains(out, "FUSILLADE_MAX_IN_FLIGHT") {
		t.Errorf("shows a secret, or defaults:\n%s", out)
	}
	if all := must(t, "config", "check", "--all"); !strings.Contains(all, "FUSILLADE_MAX_IN_FLIGHT") {
		t.Errorf("--all lacks a default:\n%s", all)
	}
	t.Setenv("FUSILLADE_UPSTREAM_URL", "http://"+refusing)
	t.Setenv("FUSILLADE_NATS_URL", "nats://"+refusing)
	code, out, _ := command(t, "config", "check", "--json")
	var report struct {
		Findings []struct {
			What string `json:"what"`
			OK   bool   `json:"ok"`
			Text string `json:"text"`
		} `json:"findings"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != cli.ExitFailed {
		t.Fatalf("exit code %d, %v:\n%s", code, err, out)
	}
	for _, f := range report.Findings {
		if bad := f.What == "nats" || strings.HasPrefix(f.What, "endpoint"); f.OK == bad || bad && !strings.Contains(f.Text, refusing) {
			t.Errorf("%+v", f)
		}
	}
	for _, f := range report.Findings {
		if f.What == "traces" && !strings.HasPrefix(f.Text, "off") {
			t.Errorf("traces: %s", f.Text)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+inUse)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=sk-secret")
	_, out, _ = command(t, "config", "check")
	for _, want := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "ok   traces: on: by http/protobuf to http://" + inUse + ", sampler parentbased_always_on"} {
		if !strings.Contains(out, want) || strings.Contains(out, "sk-secret") {
			t.Errorf("lacks %q, or shows a secret:\n%s", want, out)
		}
	}
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+refusing)
	if _, out, _ = command(t, "config", "check"); !strings.Contains(out, "FAIL traces: the collector http://"+refusing+" takes no connections") {
		t.Errorf("a collector that is away:\n%s", out)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
	refuses(t, cli.ExitUsage, []string{"OTEL_EXPORTER_OTLP_PROTOCOL"}, "config", "check")
	t.Setenv("FUSILLADE_MAX_IN_FLIGHT", "many")
	refuses(t, cli.ExitUsage, []string{"FUSILLADE_MAX_IN_FLIGHT"}, "config", "check")
}
