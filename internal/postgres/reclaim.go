package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Postgres's clock and its own record decide who is dead, never what the
// broker says: a daemon that is cut off the broker goes on calling for a while.
const declareDeadSQL = `
UPDATE daemons SET status = 'dead', stopped_at = now(), requests_in_flight = 0
 WHERE status <> 'dead' AND last_heartbeat < now() - $1::interval`

// DeclareDead ends the records of daemons without a heartbeat for the time.
// They do not come back to life: their next heartbeat is refused. It returns
// all daemons that are dead and were not removed yet.
func (s *Store) DeclareDead(ctx context.Context, stale time.Duration) ([]batch.DaemonID, error) {
	if _, err := s.exec(ctx, declareDeadSQL, stale); err != nil {
		return nil, fmt.Errorf("declaring daemons dead: %w", err)
	}
	ids, err := collect(ctx, s, func(row pgx.CollectableRow) (id batch.DaemonID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	}, `SELECT id FROM daemons WHERE status = 'dead'`)
	if err != nil {
		return nil, fmt.Errorf("listing dead daemons: %w", err)
	}
	return ids, nil
}

// Walks the live requests, which are few. Rows that are locked are just being
// taken over or finished. A start of a redelivered message and this statement
// do the same to a request; whichever comes first is the one that counts.
const reclaimSQL = `
WITH orphans AS MATERIALIZED (
    SELECT ctid AS place FROM requests
     WHERE state = 'processing' AND daemon_id = ANY ($1::uuid[])
     ORDER BY batch_id, line LIMIT $2
       FOR UPDATE SKIP LOCKED
)
UPDATE requests r
   SET state = 'pending', daemon_id = NULL, due_at = now(), not_before = NULL, takeovers = r.takeovers + 1
  FROM orphans
 WHERE r.ctid = orphans.place
RETURNING r.batch_id, r.line, r.claim, r.attempt, r.routed_model`

// Reclaim returns up to n requests that these daemons were processing to
// pending, to be claimed at once. The daemons must be dead; see DeclareDead. It
// returns what was returned, with the claims that are void now.
func (s *Store) Reclaim(ctx context.Context, dead []batch.DaemonID, n int) ([]Overdue, error) {
	ids := make([][16]byte, len(dead))
	for i, id := range dead {
		ids[i] = [16]byte(id)
	}
	reclaimed, err := collect(ctx, s, func(row pgx.CollectableRow) (r Overdue, err error) {
		err = row.Scan((*[16]byte)(&r.ID.Batch), &r.ID.Line, &r.Claim, &r.Attempt, (*string)(&r.Model))
		return r, err
	}, reclaimSQL, ids, n)
	if err != nil {
		return nil, fmt.Errorf("reclaiming requests: %w", err)
	}
	return reclaimed, nil
}

const removeDeadSQL = `
DELETE FROM daemons WHERE id IN (
    SELECT id FROM daemons WHERE status = 'dead' AND stopped_at < now() - $1::interval ORDER BY stopped_at LIMIT $2)`

// RemoveDead removes the records of up to n daemons that have been dead for
// the time. It returns how many were removed.
func (s *Store) RemoveDead(ctx context.Context, age time.Duration, n int) (int, error) {
	removed, err := s.exec(ctx, removeDeadSQL, age, n)
	if err != nil {
		return 0, fmt.Errorf("removing records of dead daemons: %w", err)
	}
	return int(removed), nil
}

// DaemonStatus is a daemon as its record and its last heartbeat say.
type DaemonStatus struct {
	ID                batch.DaemonID
	Role, Host        string
	PID               int
	Version, Status   string
	StartedAt         time.Time
	HeartbeatAge      time.Duration // by Postgres's clock
	InFlight          int
	Completed, Failed int64
}

// Daemons lists the daemons whose records are kept, those that live first,
// then by start.
func (s *Store) Daemons(ctx context.Context) ([]DaemonStatus, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `
SELECT id, role, hostname, pid, version, status, started_at, (extract(epoch FROM now() - last_heartbeat) * 1e6)::bigint,
       requests_in_flight, requests_completed, requests_failed
  FROM daemons ORDER BY status = 'dead', started_at, id`)
	if err != nil {
		return nil, fmt.Errorf("listing daemons: %w", err)
	}
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r DaemonStatus, err error) {
		var micros int64
		err = row.Scan((*[16]byte)(&r.ID), &r.Role, &r.Host, &r.PID, &r.Version, &r.Status, &r.StartedAt, &micros,
			&r.InFlight, &r.Completed, &r.Failed)
		r.HeartbeatAge = time.Duration(micros) * time.Microsecond
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("listing daemons: %w", err)
	}
	return records, nil
}

// OldestConsumer is how long ago the daemon began that has been making calls for
// the longest, of those whose heartbeat is not older than stale; 0: there is
// none.
func (s *Store) OldestConsumer(ctx context.Context, stale time.Duration) (time.Duration, error) {
	var micros int64
	err := s.queryRow(ctx, `
SELECT COALESCE((extract(epoch FROM now() - min(started_at)) * 1e6)::bigint, 0) FROM daemons
 WHERE role IN ('consumer', 'standalone') AND status <> 'dead' AND last_heartbeat > now() - $1::interval`, []any{stale}, &micros)
	if err != nil {
		return 0, fmt.Errorf("looking for consumers: %w", err)
	}
	return time.Duration(micros) * time.Microsecond, nil
}

// Working reports whether a daemon that lives has a request of the model in
// hand, or one waits out its backoff in the stream.
func (s *Store) Working(ctx context.Context, model batch.Model, stale time.Duration) (bool, error) {
	var working bool
	err := s.queryRow(ctx, `
SELECT EXISTS (
    SELECT FROM requests r
     WHERE r.routed_model = $1 AND (r.not_before > now() OR r.state = 'processing' AND EXISTS (
           SELECT FROM daemons d WHERE d.id = r.daemon_id AND d.status <> 'dead' AND d.last_heartbeat > now() - $2::interval)))`,
		[]any{string(model), stale}, &working)
	if err != nil {
		return false, fmt.Errorf("looking for work in hand: %w", err)
	}
	return working, nil
}
