package main

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"fusillade/internal/scaling"
)

var update = flag.Bool("update", false, "write the tables into docs/scaling.md")

const document = "../../docs/scaling.md"

// The tables of docs/scaling.md are what the model says of the costs that were
// measured. `make readme` writes them.
func TestDocument(t *testing.T) {
	t.Parallel()
	var costs scaling.Costs
	if err := json.Unmarshal(measured, &costs); err != nil {
		t.Fatal(err)
	}
	want, err := sections(costs, runs)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for name, section := range want {
		begin, end := "<!-- "+name+": begin -->\n", "<!-- "+name+": end -->"
		before, rest, ok := strings.Cut(text, begin)
		was, after, ended := strings.Cut(rest, end)
		if !ok || !ended {
			t.Fatalf("docs/scaling.md has no section %s", name)
		}
		if was != section && !*update {
			t.Errorf("docs/scaling.md: %s is not what was measured; make readme\n%s", name, section)
		}
		text = before + begin + section + end + after
	}
	if *update {
		if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSectionsOfRuns(t *testing.T) {
	t.Parallel()
	got, err := sections(scaling.Costs{Copies: 3, ShardPerSecond: 1}, []byte(`[{"pods":2,"in_flight":50,"latency_ns":250000000,"requests_per_second":380.4,"predicted_requests_per_second":386,"bound":"pods' slots"}]`))
	if err != nil {
		t.Fatal(err)
	}
	if want := "| 2 | 50 | 0.25 | 380 | 386 | pods' slots |\n"; !strings.HasSuffix(got["checked"], want) {
		t.Errorf("it is %q, want %q at the end", got["checked"], want)
	}
	if _, err := sections(scaling.Costs{}, []byte("{")); err == nil {
		t.Error("a broken file is taken")
	}
}
