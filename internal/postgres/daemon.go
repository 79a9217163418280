package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"fusillade/internal/batch"
)

// Daemon is one run of one process.
type Daemon struct {
	ID       batch.DaemonID
	Role     string // dispatcher, consumer or standalone
	Hostname string
	PID      int
	Version  string
	Config   map[string]string // without secrets
}

// Progress is what a daemon reports with each heartbeat, counted since its start.
type Progress struct {
	Completed, Failed int64
	InFlight          int
	Stopping          bool // it takes no more work and ends what it has begun
}

// NewDaemonID returns an id for this run of this process.
func NewDaemonID() batch.DaemonID { return newID() }

const (
	registerDaemonSQL = `
INSERT INTO daemons (id, role, hostname, pid, version, status, config) VALUES ($1, $2, $3, $4, $5, 'initializing', $6::jsonb)`

	// A daemon that others have declared dead does not come back to life.
	heartbeatSQL = `
UPDATE daemons
   SET last_heartbeat = now(), status = CASE WHEN $5 THEN 'stopping' ELSE 'running' END, requests_completed = $2, requests_failed = $3, requests_in_flight = $4
 WHERE id = $1 AND status <> 'dead'`

	endDaemonSQL = `
UPDATE daemons SET status = 'dead', stopped_at = now(), requests_in_flight = 0 WHERE id = $1 AND status <> 'dead'`
)

// RegisterDaemon records that a daemon is starting.
func (s *Store) RegisterDaemon(ctx context.Context, d Daemon) error {
	config, err := json.Marshal(d.Config)
	if err != nil {
		return fmt.Errorf("registering daemon: %w", err)
	}
	if _, err := s.exec(ctx, registerDaemonSQL, [16]byte(d.ID), d.Role, d.Hostname, d.PID, d.Version, config); err != nil {
		return fmt.Errorf("registering daemon: %w", err)
	}
	return nil
}

// Heartbeat records that a daemon lives and what it has done. It returns
// batch.ErrDaemonDead if the daemon was declared dead; it must then stop.
func (s *Store) Heartbeat(ctx context.Context, id batch.DaemonID, p Progress) error {
	n, err := s.exec(ctx, heartbeatSQL, [16]byte(id), p.Completed, p.Failed, p.InFlight, p.Stopping)
	if err != nil {
		return fmt.Errorf("writing heartbeat: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("writing heartbeat of daemon %s: %w", id, batch.ErrDaemonDead)
	}
	return nil
}

// EndDaemon records that a daemon has stopped. What it was calling may be
// taken over at once.
func (s *Store) EndDaemon(ctx context.Context, id batch.DaemonID) error {
	if _, err := s.exec(ctx, endDaemonSQL, [16]byte(id)); err != nil {
		return fmt.Errorf("ending daemon: %w", err)
	}
	return nil
}
