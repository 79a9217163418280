//go:build chaos && unix

package chaos

import (
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// faults is the table that the suite prints at its end.
var faults table

type table struct {
	mu   sync.Mutex
	rows []row
}

type row struct{ fault, outcome, recovered, test string }

// add notes the outcome of a fault, if the test has not failed.
func (t *table) add(test *testing.T, fault, outcome string, recovered time.Duration) {
	test.Helper()
	took := "-"
	if recovered > 0 {
		took = fmt.Sprintf("%.1f s", recovered.Seconds())
	}
	test.Logf("%s: %s; recovered after %s", fault, outcome, took)
	if test.Failed() {
		outcome = "FAILED"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, row{fault, outcome, took, test.Name()})
}

func (t *table) print(w io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return
	}
	sort.SliceStable(t.rows, func(i, j int) bool { return t.rows[i].test < t.rows[j].test })
	var b strings.Builder
	fmt.Fprintf(&b, "\nCHAOS_SEED=%d\n\n| fault | outcome | recovered after | command |\n|---|---|---|---|\n", seed)
	for _, r := range t.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | `make chaos RUN='%s'` |\n", r.fault, r.outcome, r.recovered, exactly(r.test))
	}
	_, _ = io.WriteString(w, b.String())
}

// exactly is the pattern that runs one test alone.
func exactly(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + p + "$"
	}
	return strings.Join(parts, "/")
}
