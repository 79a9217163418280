//go:build chaos && unix

package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
)

// watcher checks every batch again and again while faults come: what must hold
// at every instant, and that no result that was there once has changed.
type watcher struct {
	c    *cluster
	stop context.CancelFunc
	over sync.WaitGroup
	seen map[batch.ID]*checker.Results // owned by run, until it has ended
	n    int                           // looks that succeeded
}

const watchInterval = 250 * time.Millisecond

func startWatcher(c *cluster) *watcher {
	ctx, stop := context.WithCancel(context.WithoutCancel(c.t.Context()))
	w := &watcher{c: c, stop: stop, seen: make(map[batch.ID]*checker.Results)}
	w.over.Go(func() {
		for ctx.Err() == nil {
			if w.look(ctx) {
				w.n++
			}
			select {
			case <-ctx.Done():
			case <-time.After(watchInterval):
			}
		}
	})
	c.t.Cleanup(func() {
		stop()
		w.over.Wait()
	})
	return w
}

// look reports whether it could.
func (w *watcher) look(ctx context.Context) bool {
	for _, id := range w.c.ids() {
		if w.report(checker.Check(ctx, w.c.db, id)) {
			return false
		}
		if before := w.seen[id]; before != nil && w.report(before.Unchanged(ctx, w.c.db)) {
			return false
		}
		now, err := checker.Snapshot(ctx, w.c.db, id)
		if w.report(err) {
			return false
		}
		w.seen[id] = now
	}
	return true
}

// report fails the test for a contradiction, and reports whether the database
// could not be read, which says nothing.
func (w *watcher) report(err error) (unread bool) {
	if err == nil {
		return false
	}
	if errors.Unwrap(err) != nil {
		return true
	}
	w.c.t.Error(err)
	return false
}

// result is what the tables say of one request, and what the endpoint says.
type result struct {
	id       batch.ID
	customID string
	state    batch.State
	attempts int64
	calls    int64
}

// verify waits until everything has ended and the stream is empty, and checks
// all that must hold then. Each request may have been called once more than it
// was tried for each consumer that died, and for each crash of the database.
func (c *cluster) verify() (outcome string) {
	c.t.Helper()
	return c.verifyBut(0)
}

// verifyBut lets that many calls more be made of each request.
func (c *cluster) verifyBut(more int64) (outcome string) {
	c.t.Helper()
	c.awaitEnd()
	c.awaitEmpty()
	c.watcher.stop()
	c.watcher.over.Wait()
	if c.watcher.n == 0 {
		c.t.Error("nothing was watched")
	}
	if !c.watcher.look(c.t.Context()) {
		c.t.Error("the tables could not be read at the end")
	}
	stats := c.endpoint.stats()
	for model, s := range stats.Models {
		// Of a frozen consumer, a call that was past the last question and not
		// sent yet may be sent as it wakes: docs/reliability.md.
		if c.halves > 1 {
			if s.PeakInFlight > c.halves*int64(c.limit) {
				c.t.Errorf("model %s: %d calls in flight at once with %d brokers serving; its limit is %d", model, s.PeakInFlight, c.halves, c.limit)
			}
			c.t.Logf("model %s: at most %d calls in flight at once", model, s.PeakInFlight)
		} else if s.CeilingViolations > int64(2*c.frozen) {
			c.t.Errorf("model %s: %d calls in flight at once, %d beyond its limit of %d", model, s.PeakInFlight, s.CeilingViolations, c.limit)
		}
	}
	lost := c.lostConsumers()
	allowed := lost + int64(c.databaseCrashes) + more
	counts := make(map[batch.State]int)
	again, most := 0, int64(0)
	for _, r := range c.results(stats.CustomIDs) {
		counts[r.state]++
		extra := r.calls - r.attempts
		switch {
		case extra > allowed:
			c.t.Errorf("%s was called %d times in %d attempts, with %d consumers and %d databases lost", r.customID, r.calls, r.attempts, lost, c.databaseCrashes)
		case extra < 0 && (r.state == batch.Completed || r.state == batch.Failed):
			c.t.Errorf("%s was called %d times in %d attempts", r.customID, r.calls, r.attempts)
		}
		if extra > 0 {
			again++
			most = max(most, extra)
		}
	}
	for _, p := range c.pods {
		p.now().Sound(c.t)
		c.ran(p.now())
	}
	parts := []string{}
	for _, s := range []batch.State{batch.Completed, batch.Failed, batch.Canceled} {
		if counts[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s], s))
		}
	}
	outcome = strings.Join(parts, ", ") + "; "
	if again == 0 {
		return outcome + "none called twice"
	}
	return outcome + fmt.Sprintf("%d called again, at most %d×", again, most)
}

// lostConsumers is how many consumers died, or took themselves for dead.
func (c *cluster) lostConsumers() int64 {
	c.t.Helper()
	running := int64(0)
	for _, p := range c.pods {
		if p.role == "consumer" {
			running++
		}
	}
	// A pod that is just being started again has no record yet.
	poll(c.t, "every consumer runs", func() bool {
		return c.count(`SELECT count(*) FROM daemons WHERE role = 'consumer' AND status = 'running' AND last_heartbeat > now() - interval '2 s'`) == running
	})
	return c.count(`SELECT count(*) FROM daemons WHERE role = 'consumer'`) - running - int64(c.graceful)
}

// results reads what every request ended as. Lines that were skipped have no
// row, and must not have been called.
func (c *cluster) results(calls map[string]int64) []result {
	c.t.Helper()
	rows, err := c.db.Query(c.t.Context(), `
SELECT b.id, t.custom_id, COALESCE(s.state::text, 'canceled'), COALESCE(s.attempts, 0)
  FROM batches b JOIN templates t ON t.file_id = b.file_id LEFT JOIN results s ON s.batch_id = b.id AND s.line = t.line`)
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r result, err error) {
		err = row.Scan((*[16]byte)(&r.id), &r.customID, (*string)(&r.state), &r.attempts)
		r.calls = calls[r.customID]
		return r, err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

// calledOf are the calls of one batch so far, by custom id.
func (c *cluster) calledOf(letter string) map[string]int64 {
	c.t.Helper()
	calls := c.endpoint.stats().CustomIDs
	maps.DeleteFunc(calls, func(id string, _ int64) bool { return !strings.HasPrefix(id, letter) })
	return calls
}
