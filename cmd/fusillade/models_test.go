package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/client"
	"fusillade/internal/cli"
)

func TestBadModelAndUserCommands(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"nothing to set":     {[]string{"models", "set", "m"}, "nothing to set"},
		"negative limit":     {[]string{"models", "set", "m", "--limit=-1"}, "--limit"},
		"limit too high":     {[]string{"models", "set", "m", "--limit=1000001"}, "--limit"},
		"to itself":          {[]string{"models", "set", "m", "--escalate-to", "m"}, "--escalate-to"},
		"two escalations":    {[]string{"models", "set", "m", "--escalate-to", "x", "--no-escalation"}, "exclude each other"},
		"bad threshold":      {[]string{"models", "set", "m", "--escalate-to", "x", "--escalate-before", "soon"}, "--escalate-before"},
		"half a second":      {[]string{"models", "set", "m", "--escalate-to", "x", "--escalate-before", "1500ms"}, "whole seconds"},
		"threshold too long": {[]string{"models", "set", "m", "--escalate-to", "x", "--escalate-before", "30000d"}, "at most"},
		"no model":           {[]string{"models", "pause", ""}, "MODEL"},
		"no user":            {[]string{"owners", "set", "", "--weight", "1"}, "NAME"},
		"weight too low":     {[]string{"owners", "set", "bob", "--weight", "0.001"}, "--weight"},
		"weight too high":    {[]string{"owners", "set", "bob", "--weight", "1001"}, "--weight"},
		"no number":          {[]string{"owners", "set", "bob", "--weight", "NaN"}, "--weight"},
		"no weight":          {[]string{"owners", "set", "bob"}, "--weight"},
	} {
		code, _, message := command(t, tt.args...)
		if code != cli.ExitUsage || !strings.Contains(message, tt.want) {
			t.Errorf("%s: exit code %d, want %d and a message that names %q:\n%s", name, code, cli.ExitUsage, tt.want, message)
		}
	}
}

// What waits is listed by model and window, soonest deadline first.
func TestModelsDemand(t *testing.T) {
	newServer(t, nil)
	in := write(t, "in.jsonl", goodLines(7)+line("other", `{"model":"o1","messages":[]}`))
	for _, window := range []string{"24h", "1h"} {
		if code, _, message := command(t, "batches", "create", in, "--completion-window", window); code != 0 {
			t.Fatal(message)
		}
	}
	code, out, message := command(t, "models", "demand", "--json")
	if code != 0 {
		t.Fatal(message)
	}
	var got []client.Demand
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var one client.Demand
		if err := d.Decode(&one); err != nil {
			t.Fatal(err)
		}
		if one.ExpiresAt == 0 {
			t.Errorf("no deadline: %+v", one)
		}
		one.ExpiresAt = 0
		got = append(got, one)
	}
	want := []client.Demand{
		{Model: "gpt-4", CompletionWindow: "1h", Pending: 7}, {Model: "gpt-4", CompletionWindow: "24h", Pending: 7},
		{Model: "o1", CompletionWindow: "1h", Pending: 1}, {Model: "o1", CompletionWindow: "24h", Pending: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("demand (-want +got):\n%s", diff)
	}
	_, table, _ := command(t, "models", "demand")
	if rows := strings.Split(table, "\n"); len(strings.Fields(rows[0])) != 4 || len(strings.Fields(rows[1])) != 5 || !strings.HasPrefix(rows[1], "gpt-4") {
		t.Errorf("table:\n%s", table)
	}
}

// What is set is shown, whether or not a dispatcher runs.
func TestModelAndUserCommands(t *testing.T) {
	newServer(t, nil)
	do := func(args ...string) string {
		t.Helper()
		code, out, message := command(t, args...)
		if code != 0 {
			t.Fatalf("fusillade %s: exit code %d:\n%s", strings.Join(args, " "), code, message)
		}
		return out
	}
	list := func(want ...client.ModelStatus) {
		t.Helper()
		var got []client.ModelStatus
		for d := json.NewDecoder(strings.NewReader(do("models", "ls", "--json"))); d.More(); {
			var m client.ModelStatus
			if err := d.Decode(&m); err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("models (-want +got):\n%s", diff)
		}
	}
	do("batches", "create", write(t, "in.jsonl", goodLines(7)))
	const fromOperator, fromEnvironment = "operator", "environment"
	gpt4 := client.ModelStatus{ID: "gpt-4", LimitSource: fromEnvironment, Pending: 7, Holds: []client.Hold{}}
	list(gpt4)
	do("models", "set", "gpt-4", "--limit", "5", "--escalate-to", "o1", "--escalate-before", "30m")
	do("models", "pause", "gpt-4")
	gpt4.Limit, gpt4.LimitSource, gpt4.Paused = 5, fromOperator, true
	gpt4.EscalatesTo, gpt4.EscalatesSeconds, gpt4.EscalationSource = "o1", 1800, fromOperator
	list(gpt4)
	table := do("models", "ls", "-o", "wide")
	for _, want := range []string{"MODEL", "gpt-4", "paused", "o1@1800s (operator)"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not show %q:\n%s", want, table)
		}
	}
	do("models", "resume", "gpt-4")
	do("models", "set", "gpt-4", "--escalate-before", "1m")
	gpt4.Paused, gpt4.EscalatesSeconds = false, 60
	list(gpt4)
	do("models", "set", "gpt-4", "--limit", "0", "--no-escalation")
	list(client.ModelStatus{ID: "gpt-4", LimitSource: fromEnvironment, Pending: 7, Holds: []client.Hold{}})
	if code, _, message := command(t, "models", "set", "gpt-4", "--escalate-before", "1m"); code != cli.ExitUsage || !strings.Contains(message, "--escalate-to") {
		t.Errorf("a threshold without a model: exit code %d:\n%s", code, message)
	}

	do("owners", "set", "bob", "--weight", "2.5")
	do("owners", "set", "alice", "--weight", "1")
	do("owners", "set", "alice", "--weight", "0")
	for _, flag := range []string{"--json", "-ojson"} { // an object a line, as every list
		if got, want := do("owners", "ls", flag), `{"name":"bob","weight":2.5}`+"\n"; got != want {
			t.Errorf("owners ls %s prints %q, want %q", flag, got, want)
		}
	}
	if got, want := do("owners", "ls"), "OWNER  WEIGHT\nbob    2.5\n"; got != want {
		t.Errorf("users are\n%s\nwant\n%s", got, want)
	}
	if got, want := do("users", "ls", "--json"), do("owners", "ls", "--json"); got != want {
		t.Errorf("under the former name it prints %q, want %q", got, want)
	}
}
