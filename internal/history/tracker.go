package history

import (
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// Change is how far a batch is, and what was done of it since the look before.
type Change struct {
	postgres.BatchProgress
	Done  postgres.Done
	Known bool // else Done is not known: all that the batch has may be older
}

// Tracker tells what was done between looks at how far batches are. Its zero value
// has not looked yet.
type Tracker struct {
	at      time.Time
	batches map[batch.ID]postgres.BatchProgress
}

// At is when it looked last; zero: never.
func (t *Tracker) At() time.Time { return t.at }

// Window is how far back a look must see what has finished: since the last one, and a
// little more, for the last results of a batch may have been committed during it.
func (t *Tracker) Window(now time.Time) time.Duration {
	const overlap = 10 * time.Second
	return min(now.Sub(t.at), time.Hour) + overlap
}

// Add takes a look, and returns what was done since the one before.
func (t *Tracker) Add(now time.Time, list []postgres.BatchProgress) []Change {
	changes := make([]Change, len(list))
	known := make(map[batch.ID]postgres.BatchProgress, len(list))
	for i, b := range list {
		known[b.ID] = b
		last, seen := t.batches[b.ID]
		// What is new here was created since, was rerun, or this process is new: then
		// what it has was done before.
		if !seen && !t.at.IsZero() && b.CreatedAt.After(t.at) {
			last, seen = postgres.BatchProgress{}, true
		}
		changes[i] = Change{BatchProgress: b, Known: seen && !t.at.IsZero()}
		if changes[i].Known {
			changes[i].Done = postgres.Done{
				Completed: max(b.Completed-last.Completed, 0), Unsuccessful: max(b.Unsuccessful-last.Unsuccessful, 0),
				InTokens: max(b.InTokens-last.InTokens, 0), OutTokens: max(b.OutToken-last.OutToken, 0),
			}
		}
	}
	t.at, t.batches = now, known
	return changes
}
