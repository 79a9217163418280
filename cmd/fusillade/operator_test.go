package main

import (
	"strings"
	"testing"

	"fusillade/internal/cli"
)

// An operator changes the batches of others, and says that they mean to.
func TestOperatorChangesBatchesOfOthers(t *testing.T) {
	t.Setenv("FUSILLADE_API_AUTH", "keys")
	newServer(t, nil)
	alice, operator := must(t, "keys", "create", "--owner", "alice"), must(t, "keys", "create", "--owner", "root", "--admin")
	t.Setenv("FUSILLADE_API_KEY", alice)
	id := must(t, "batches", "create", write(t, "in.jsonl", goodLines(3)))
	refuses(t, cli.ExitFailed, []string{"Only operators"}, "batches", "cancel", id, "--any-owner")
	t.Setenv("FUSILLADE_API_KEY", operator)
	for _, args := range [][]string{{"cancel"}, {"cancel", "--line", "1"}, {"rerun"}, {"rerun", "--line", "1"}, {"delete"}} {
		refuses(t, cli.ExitFailed, []string{"No such"}, append([]string{"batches", args[0], id}, args[1:]...)...)
	}
	must(t, "batches", "cancel", id, "--line", "1", "--any-owner")
	if got := must(t, "batches", "cancel", id, "--any-owner"); !strings.Contains(got, "cancelled") {
		t.Errorf("cancel shows\n%s", got)
	}
	must(t, "batches", "rerun", id, "--line", "2", "--any-owner")
	if got := must(t, "batches", "rerun", id, "--canceled", "--any-owner"); !strings.Contains(got, "in_progress") {
		t.Errorf("rerun shows\n%s", got)
	}
	must(t, "batches", "delete", id, "--any-owner")
	refuses(t, cli.ExitFailed, []string{"No such"}, "batches", "delete", id, "--any-owner")
}
