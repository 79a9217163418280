package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

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
	rows, err := s.db.Query(ctx, `
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
// flight, or one waits out its backoff in the stream.
func (s *Store) Working(ctx context.Context, model batch.Model, stale time.Duration) (bool, error) {
	var working bool
	err := s.queryRow(ctx, `
SELECT EXISTS (
    SELECT FROM requests r
     WHERE r.routed_model = $1 AND (r.not_before > now() OR r.state = 'processing' AND EXISTS (
           SELECT FROM daemons d WHERE d.id = r.daemon_id AND d.status <> 'dead' AND d.last_heartbeat > now() - $2::interval)))`,
		[]any{string(model), stale}, &working)
	if err != nil {
		return false, fmt.Errorf("looking for work in flight: %w", err)
	}
	return working, nil
}
