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
