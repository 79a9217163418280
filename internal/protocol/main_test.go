package protocol_test

import (
	"flag"
	"testing"

	"fusillade/internal/protocol"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/effort"
)

var (
	full   = flag.Bool("full", false, "explore the large configurations too (minutes)")
	update = flag.Bool("update", false, "write the tables of states and of mutants into the documentation")
)

func TestMain(m *testing.M) { testenv.Main(m) }

func skipRaced(t *testing.T) {
	t.Helper()
	if effort.Raced {
		t.Skip("it has one goroutine: make test plays it without the race detector")
	}
}

// configs bound what is explored, the smallest first. The large ones take minutes.
var configs = []struct {
	protocol.Config
	large bool
}{
	{Config: protocol.Config{Name: "no fault, a retry", Requests: 2, Retries: 1}},
	{Config: protocol.Config{Name: "two changes", Requests: 1, Retries: 1, Changes: 2, Slice: 1}},
	{Config: protocol.Config{Name: "two batches, a change", Requests: 2, TwoBatches: true, Changes: 1, Slice: 1}},
	{Config: protocol.Config{Name: "a fault, a retry", Requests: 1, Faults: 1, Kinds: protocol.Any, Retries: 1, Leaders: 1}},
	{Config: protocol.Config{Name: "two lines, a change, a retry", Requests: 2, Retries: 1, Changes: 1, Slice: 1}},
	{Config: protocol.Config{Name: "two lines, two changes", Requests: 2, Changes: 2, Slice: 1}},
	// Large ones, those first that show rare guards to be needed.
	{Config: protocol.Config{Name: "two faults, a retry", Requests: 1, Faults: 2, Kinds: protocol.Any, Retries: 1, Leaders: 1}, large: true},
	{Config: protocol.Config{Name: "two lines, three changes", Requests: 2, Changes: 3, Slice: 1}, large: true},
	{Config: protocol.Config{Name: "a fault, a change, a retry, two leaders", Requests: 1, Faults: 1, Kinds: protocol.Any, Retries: 1, Changes: 1, Slice: 1, Leaders: 2}, large: true},
	{Config: protocol.Config{Name: "a fault, two changes", Requests: 1, Faults: 1, Kinds: protocol.Any, Changes: 2, Slice: 1, Leaders: 1}, large: true},
	{Config: protocol.Config{Name: "two lines, a fault", Requests: 2, Faults: 1, Kinds: protocol.Any, Leaders: 1}, large: true},
	{Config: protocol.Config{Name: "two batches, a fault, a change", Requests: 2, TwoBatches: true, Faults: 1, Kinds: protocol.Any, Changes: 1, Slice: 1, Leaders: 1}, large: true},
	{Config: protocol.Config{Name: "two lines, a fault, a change", Requests: 2, Faults: 1, Kinds: protocol.Any, Changes: 1, Slice: 1, Leaders: 1}, large: true},
}
