package dispatch

import (
	"maps"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// Stats are counted since the start.
type Stats struct {
	// Escalated is how many claims were for another model than the file names.
	Escalated map[Escalated]int64
}

// Escalated is an escalation that was made. There are at most as many as
// there were escalations in force.
type Escalated struct{ From, To batch.Model }

// Stats returns the current numbers.
func (d *Dispatcher) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Stats{Escalated: maps.Clone(d.escalated)}
}

// count counts what was claimed for the model.
func (d *Dispatcher) count(to batch.Model, claimed []postgres.ClaimedRequest) {
	n := make(map[batch.Model]int64)
	for _, r := range claimed {
		if r.From != "" {
			n[r.From]++
		}
	}
	if len(n) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for from, n := range n {
		d.escalated[Escalated{From: from, To: to}] += n
		d.metrics.escalated(from, to, int(n))
	}
}
