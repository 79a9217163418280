package main

import (
	"strings"
	"testing"

	"fusillade/internal/cli"
	"fusillade/internal/mock"
)

// A budget is given, shown, spent, said what to do about, raised and taken away.
func TestBatchWithABudget(t *testing.T) {
	t.Setenv("FUSILLADE_MODEL_PRICES", "gpt-4=1/2")
	newServer(t, &mock.Settings{Latency: "200ms"})
	in := write(t, "in.jsonl", goodLines(100))
	code, out, errOut := command(t, "batches", "create", in, "--budget-tokens", "1", "--watch")
	id := strings.TrimSpace(out)
	for _, want := range []string{"cancelled: ", "budget is spent", "batches set " + id + " --budget-tokens N", "batches rerun " + id + " --canceled"} {
		if code != cli.ExitFailed || !strings.Contains(errOut, want) {
			t.Errorf("exit code %d, without %q:\n%s", code, want, errOut)
		}
	}
	if shown := must(t, "batches", "get", id); !strings.Contains(shown, "of 1 tokens spent; what was left is canceled") {
		t.Errorf("get shows\n%s", shown)
	}
	if groups := must(t, "batches", "errors", id); !strings.Contains(groups, "budget_exceeded") && !strings.Contains(groups, "o error") {
		t.Errorf("errors shows\n%s", groups)
	}
	refuses(t, cli.ExitFailed, []string{"budget", "fusillade batches set"}, "batches", "rerun", id, "--canceled")
	if shown := must(t, "batches", "set", id, "--budget-cost", "1000"); !strings.Contains(shown, "of 1000.00 spent") {
		t.Errorf("set shows\n%s", shown)
	}
	must(t, "batches", "rerun", id, "--canceled")
	if code, _, errOut := command(t, "batches", "watch", id); code != 0 || !strings.Contains(errOut, "100 of 100 requests completed") {
		t.Errorf("exit code %d:\n%s", code, errOut)
	}
	if shown := must(t, "batches", "set", id, "--no-budget"); strings.Contains(shown, "budget") {
		t.Errorf("without a budget it shows\n%s", shown)
	}
	refuses(t, cli.ExitUsage, []string{"--priority", "--no-budget"}, "batches", "set", id)
	refuses(t, cli.ExitUsage, []string{"--no-budget excludes"}, "batches", "set", id, "--no-budget", "--budget-tokens", "1")
	refuses(t, cli.ExitUsage, []string{"--budget-tokens", "whole number"}, "batches", "create", in, "--budget-tokens", "many")
	refuses(t, cli.ExitUsage, []string{"--budget-cost", "2.50"}, "run", in, "-o", "-", "--mock", "--budget-cost", "0")
}
