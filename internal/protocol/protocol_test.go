package protocol_test

import (
	"fmt"
	"strings"
	"testing"

	"fusillade/internal/protocol"
)

// most is far above the states of any configuration: a model that grows beyond it
// has lost a bound.
const most = 20_000_000

// Whatever happens within the bounds of a configuration, every invariant holds, and
// every request ends.
func TestEveryState(t *testing.T) {
	t.Parallel()
	skipRaced(t)
	rows := make([]string, len(configs))
	t.Run("configurations", func(t *testing.T) {
		for i, c := range configs {
			t.Run(strings.ReplaceAll(c.Name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				if c.large && !*full {
					t.Skip("make model explores it")
				}
				report, err := protocol.Explore(&protocol.Protocol{Config: c.Config}, most)
				if err != nil || report.Broken != "" {
					t.Fatal(report, err)
				}
				t.Logf("%s: %s", c.Name, report)
				rows[i] = fmt.Sprintf("| %s | %d | %d | %d |\n", c.Name, report.States, report.Steps, report.Depth)
			})
		}
	})
	if !t.Failed() && *full {
		document(t, "states", "| configuration | states | steps | deepest |\n|---|---|---|---|\n"+strings.Join(rows, ""))
	}
}

// hasDaemon is why some guards are equivalent.
const hasDaemon = "a row with a daemon is processing, by a CHECK of the table"

// equivalent says why nothing can come of taking a guard out. Then the model must
// not find it.
var equivalent = map[protocol.Guard]string{
	protocol.StartSameDelivery:    "a start whose answer was lost only waits for the next delivery, which counts one more",
	protocol.StartUnprocessed:     "a row that is not processing has no daemon, so there is none that lives",
	protocol.RenewalProcessing:    hasDaemon,
	protocol.ResultProcessing:     hasDaemon,
	protocol.RetryProcessing:      hasDaemon,
	protocol.ReclaimProcessing:    hasDaemon,
	protocol.ExpiryDeadlineListed: "it only lists candidates: each is asked again under its lock",
}

// rare are guards that only a large configuration shows to be needed.
var rare = map[protocol.Guard]bool{
	protocol.StartDelivery: true, protocol.StartSameDeliveryDaemon: true, protocol.RenewalDaemon: true, protocol.ResultClaim: true, protocol.ResultDelivery: true,
	protocol.ResultDaemon: true, protocol.RetryDaemon: true, protocol.HeartbeatNotDead: true,
	protocol.RerunLinesNotLive: true, protocol.RerunLinesNoResult: true,
}

// Of each guard that is taken out, an invariant is broken.
func TestMutants(t *testing.T) {
	t.Parallel()
	skipRaced(t)
	rows := make([]string, len(protocol.Guards()))
	t.Run("guards", func(t *testing.T) {
		for _, g := range protocol.Guards() {
			t.Run(strings.ReplaceAll(g.String(), " ", "-"), func(t *testing.T) {
				t.Parallel()
				if rare[g] && !*full {
					t.Skip("make model looks for it")
				}
				rows[g] = mutant(t, g)
			})
		}
	})
	if !t.Failed() && *full {
		document(t, "mutants", "| taken out | broken | steps |\n|---|---|---|\n"+strings.Join(rows, ""))
	}
}

// mutant explores what a guard is for, and returns a row of the table.
func mutant(t *testing.T, g protocol.Guard) string {
	reason, none := equivalent[g]
	for _, c := range configs {
		if c.large && !rare[g] {
			continue
		}
		report, err := protocol.Explore(&protocol.Protocol{Config: c.Mutant(g)}, most)
		switch {
		case err != nil:
			t.Fatal(err)
		case report.Broken == "":
		case none:
			t.Fatalf("it is not equivalent: %s", report)
		default:
			t.Logf("%s: %s", c.Name, report)
			return fmt.Sprintf("| %s | %s | %d |\n", g, report.Broken, len(report.Trace))
		}
	}
	if !none {
		t.Error("no invariant notices")
	}
	return fmt.Sprintf("| %s | nothing: %s | |\n", g, reason)
}
