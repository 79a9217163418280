package dispatch

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

const (
	defaultReclaimBatchSize = 100
	// deadAge is how long the record of a dead daemon is kept, and deadPage how
	// many are removed in one sweep.
	deadAge  = 24 * time.Hour
	deadPage = 100
)

// reapInterval is the least time between two looks for daemons that died. Their
// requests run elsewhere within the stale threshold and a second.
func (d *Dispatcher) reapInterval() time.Duration {
	return min(max(d.cfg.StaleThreshold/12, 20*time.Millisecond), 500*time.Millisecond)
}

// maxReapInterval is the most: for daemons that ended and whose hint was lost.
const maxReapInterval = 2 * time.Second

// nextReap is how long until the next look, if the next daemon without a heartbeat
// is dead in that time; 0: it is not known. Heartbeats only make it later.
func (d *Dispatcher) nextReap(dead time.Duration) time.Duration {
	least := d.reapInterval()
	if dead == 0 {
		return least
	}
	return min(max(dead, least), max(maxReapInterval, least))
}

// reap takes back what dead daemons were processing, and the slots that they
// held. Daemons of which nothing is left are in reaped, and are not looked at
// again. It returns how long until it is to be called again.
//
// The leases of a dead daemon's messages run out by themselves, and a consumer
// that pulls one may take its request over. A consumer without a free slot does
// not pull, though, and the dead may hold all the slots; and a broker may be
// slow, or stuck. So the requests return to pending and are published anew. A
// crash in the middle leaves the rest to the next leader.
func (t *term) reap(ctx context.Context) (again time.Duration, err error) {
	dead, next, err := t.cfg.Store.DeclareDead(ctx, t.cfg.StaleThreshold)
	if err != nil {
		return t.nextReap(0), err
	}
	if err := t.reapAll(ctx, dead); err != nil {
		return t.nextReap(0), err
	}
	return t.nextReap(next), nil
}

func (t *term) reapAll(ctx context.Context, dead []batch.DaemonID) error {
	var fresh []batch.DaemonID
	known := make(map[batch.DaemonID]bool, len(dead))
	for _, id := range dead {
		known[id] = true
		if !t.reaped[id] {
			fresh = append(fresh, id)
		}
	}
	for id := range t.reaped {
		if !known[id] {
			delete(t.reaped, id) // its record was removed
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	total := 0
	for {
		t.loop.Busy()
		requests, err := t.cfg.Store.Reclaim(ctx, fresh, t.cfg.ReclaimBatchSize)
		if err != nil {
			return err
		}
		if len(requests) == 0 {
			break
		}
		failpoint.Hit(failpoint.Reclaimed)
		total += len(requests)
		t.metrics.reclaimed(telemetry.StaleDaemon, len(requests))
		t.removeVoid(ctx, requests)
		t.work.Notify()
	}
	if total > 0 {
		t.cfg.Log.Warn("requests of dead daemons return to pending", "daemons", len(fresh), "requests", total)
		_ = t.cfg.Conn.Publish(streams.HintWork, nil) // a hint that is lost costs a claim interval
	}
	opCtx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	gone := make(map[batch.DaemonID]bool, len(fresh))
	for _, id := range fresh {
		gone[id] = true
	}
	if err := slots.ReleaseDead(opCtx, t.slots, gone); err != nil {
		return err
	}
	for _, id := range fresh {
		t.reaped[id] = true
	}
	return nil
}

// removeVoid removes the messages of claims that are void, which count as taken
// until then and so keep the window small. What is not removed makes way when
// its request is published anew.
func (d *Dispatcher) removeVoid(ctx context.Context, requests []postgres.Overdue) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(replacing)
	for _, r := range requests {
		g.Go(func() error {
			stream := d.stream(r.Model)
			msg, err := stream.GetLastMsgForSubject(ctx, d.shard(r.Model).RequestSubject(r.Model, r.ID))
			if err == nil && isOf(msg, r.Claim) {
				_ = stream.DeleteMsg(ctx, msg.Sequence)
			}
			return nil
		})
	}
	_ = g.Wait() // no error is worth more than that
}

// removeDeadRecords removes the records of daemons that died long ago.
func (d *Dispatcher) removeDeadRecords(ctx context.Context) error {
	_, err := d.cfg.Store.RemoveDead(ctx, deadAge, deadPage)
	return err
}
