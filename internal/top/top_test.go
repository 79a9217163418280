package top

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fusillade/client"
)

func snapshot() Snapshot {
	now := time.Now()
	return Snapshot{
		At: now, Operator: true,
		Models: []client.ModelStatus{
			{ID: "idle", Limit: 10},
			{ID: strings.Repeat("long/", 40), Limit: 1000, LimitAuto: &client.LimitAuto{}, Held: 7, Pending: 123_456_789, Taken: 1000},
			{ID: "held", Limit: 5, Pending: 3, Holds: []client.Hold{{Cause: "unauthorized", Detail: "Incorrect API key provided.", Since: now.Add(-time.Hour).Unix()}}},
			{ID: "hostile\x1b[2J\n", Limit: 5, Pending: 1, Paused: true},
		},
		Daemons: []client.Daemon{{ID: "a", Role: "consumer", Host: "pod-1", Status: "running", InFlight: 7, Processed: 100, Failed: 1}},
		Batches: []client.Batch{
			{ID: "batch_" + strings.Repeat("0", 32), Status: "in_progress", CreatedAt: now.Unix(), Counts: client.Counts{Total: 1000, Completed: 100}},
			{ID: "batch_" + strings.Repeat("1", 32), Status: "completed", CreatedAt: now.Unix(), Counts: client.Counts{Total: 10, Completed: 10}},
		},
	}
}

// Whatever there is to show, no line is wider than the terminal, none is too many,
// and nothing in it acts on the terminal.
func TestViewFits(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 60}, {1, 1}} {
		for on := range tabs {
			s := &screen{now: snapshot(), width: size[0], height: size[1], tab: on, cfg: Config{Server: "here", Refresh: time.Second}}
			content := s.View().Content
			lines := strings.Split(content, "\n")
			if len(lines) > size[1] {
				t.Errorf("%v, %s: %d lines", size, tabNames[on], len(lines))
			}
			for _, line := range lines {
				for _, style := range []string{bold, reverse, plain} {
					line = strings.ReplaceAll(line, style, "")
				}
				if n := utf8.RuneCountInString(line); n > max(size[0], 26) || strings.Contains(line, "\x1b") {
					t.Errorf("%v, %s: %d columns: %q", size, tabNames[on], n, line)
				}
			}
		}
	}
}

func TestTroubles(t *testing.T) {
	t.Parallel()
	s := snapshot()
	s.Batches[0].Waiting = &client.Waiting{Message: "It waits.", Action: "Do this."}
	text := strings.Join(troubles(s), "\n")
	for _, want := range []string{"held is held for 60m: unauthorized: Incorrect API key provided.", "is paused", "It waits. Do this."} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "idle") || strings.Contains(text, "long/") {
		t.Errorf("names what needs no hand:\n%s", text)
	}
	s.Models[2].Holds[0].Action = "Correct the API key."
	s.Batches[0].Waiting.Code = "held"
	text = strings.Join(troubles(s), "\n")
	if !strings.Contains(text, "Incorrect API key provided. Correct the API key.") || strings.Contains(text, "Do this.") {
		t.Errorf("a hold is told once, with what to do, and not of each batch:\n%s", text)
	}
	s.Daemons[0].Role = "dispatcher"
	if lines := troubles(s); !strings.Contains(lines[0], "No consumer is alive") {
		t.Errorf("without a consumer: %q", lines)
	}
	s.Daemons = nil
	if lines := troubles(s); !strings.Contains(lines[0], "No daemon is alive") || len(lines) > maxTroubles {
		t.Errorf("without daemons: %q", lines)
	}
}

// What needs a hand is whole in two lines where one is too short.
func TestWrap(t *testing.T) {
	t.Parallel()
	line := "! gpt-4o-mini is held for 9s: model_not_found: status 404. Correct the model's name, or deploy it."
	for width, want := range map[int]string{
		0: line, 120: line, 80: "! gpt-4o-mini is held for 9s: model_not_found: status 404. Correct the model's\n  name, or deploy it.",
	} {
		if got := strings.Join(wrap(line, width), "\n"); got != want {
			t.Errorf("at %d columns:\n%s\nwant:\n%s", width, got, want)
		}
	}
	for _, part := range wrap(strings.Repeat("é ", 200), 40) {
		if n := utf8.RuneCountInString(part); n > 40 {
			t.Errorf("%d columns: %q", n, part)
		}
	}
}

// Rates are of what both looks saw: a daemon that is new does not count as a burst.
func TestRate(t *testing.T) {
	t.Parallel()
	before, after := snapshot(), snapshot()
	after.At = before.At.Add(2 * time.Second)
	after.Daemons[0].Processed, after.Daemons[0].Failed = 300, 11
	after.Daemons = append(after.Daemons, client.Daemon{ID: "new", Processed: 1_000_000})
	after.Batches[0].Counts.Completed = 200
	r := rate(before, after)
	if r.ended != 100 || r.failed != 5 || r.batches[after.Batches[0].ID] != 50 {
		t.Errorf("%+v", r)
	}
	if got := leftText(after.Batches[0], r); got != "16s" {
		t.Errorf("left %s", got)
	}
	if r := rate(Snapshot{}, after); r.ended != 0 {
		t.Errorf("without an earlier look: %+v", r)
	}
}

func TestSort(t *testing.T) {
	t.Parallel()
	s := &screen{now: snapshot(), width: 100, height: 24}
	names := func() (first []string) {
		for _, m := range sorted(s.now.Models, s.rates(), modelColumns[s.sortBy[models]]) {
			first = append(first, m.ID[:4])
		}
		return first
	}
	if got, _ := json.Marshal(names()); string(got) != `["long","held","host","idle"]` {
		t.Errorf("by what is pending: %s", got)
	}
	s.key("s")
	if got, _ := json.Marshal(names()); string(got) != `["held","host","idle","long"]` {
		t.Errorf("by name: %s", got)
	}
}
