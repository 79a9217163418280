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

// The statement ends the stale, and its snapshot has them as they were before. Its
// last row, without a daemon, is the time until the next may be stale.
const endStaleSQL = `
WITH ended AS (` + declareDeadSQL + `
RETURNING id)
SELECT id, 0::bigint FROM daemons WHERE status = 'dead'
UNION ALL
SELECT id, 0 FROM ended
UNION ALL
SELECT NULL, (extract(epoch FROM min(last_heartbeat) + $1::interval - now()) * 1e6)::bigint
  FROM daemons WHERE status <> 'dead' AND id NOT IN (SELECT id FROM ended)`

// DeclareDead ends the records of daemons without a heartbeat for the time.
// They do not come back to life: their next heartbeat is refused. It returns
// all daemons that are dead and were not removed yet, and in how long the next one
// is dead if no heartbeat comes; 0 if there is none alive.
func (s *Store) DeclareDead(ctx context.Context, stale time.Duration) (dead []batch.DaemonID, next time.Duration, err error) {
	var id *[16]byte
	var micros *int64
	err = s.forEach(ctx, endStaleSQL, []any{stale}, []any{&id, &micros}, func() {
		switch {
		case id != nil:
			dead = append(dead, batch.DaemonID(*id))
		case micros != nil:
			next = max(time.Duration(*micros)*time.Microsecond, 1)
		}
	})
	if err != nil {
		return nil, 0, fmt.Errorf("declaring daemons dead: %w", err)
	}
	return dead, next, nil
}

const deadAmongSQL = `
SELECT i.id FROM unnest($1::uuid[]) AS i (id)
 WHERE NOT EXISTS (SELECT FROM daemons d WHERE d.id = i.id AND d.status <> 'dead' AND d.last_heartbeat > now() - $2::interval)`

// DeadDaemons returns which of the daemons are dead, without a heartbeat for the
// time, or unknown.
func (s *Store) DeadDaemons(ctx context.Context, ids []batch.DaemonID, stale time.Duration) (map[batch.DaemonID]bool, error) {
	given := make([][16]byte, len(ids))
	for i, id := range ids {
		given[i] = id
	}
	found, err := collect(ctx, s, func(row pgx.CollectableRow) (id batch.DaemonID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	}, deadAmongSQL, given, stale)
	if err != nil {
		return nil, fmt.Errorf("looking for dead daemons: %w", err)
	}
	dead := make(map[batch.DaemonID]bool, len(found))
	for _, id := range found {
		dead[id] = true
	}
	return dead, nil
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
