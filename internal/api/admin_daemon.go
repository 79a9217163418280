package api

import (
	"context"
	"slices"

	"fusillade/internal/postgres"
)

// daemonObject is a process that works on requests, or has.
type daemonObject struct {
	ID             string `json:"id"`
	Object         string `json:"object"`
	Role           string `json:"role"`
	Host           string `json:"host"`
	PID            int    `json:"pid"`
	Version        string `json:"version"`
	Status         string `json:"status"`
	StartedAt      int64  `json:"started_at"`
	HeartbeatAgeMS int64  `json:"heartbeat_age_ms"`
	InFlight       int    `json:"in_flight"`
	Processed      int64  `json:"processed"` // completed or failed
	Failed         int64  `json:"failed"`
}

func (d daemonObject) id() string { return d.ID }

func asDaemon(d postgres.DaemonStatus) daemonObject {
	return daemonObject{
		ID: d.ID.String(), Object: "admin.daemon", Role: d.Role, Host: d.Host, PID: d.PID, Version: d.Version, Status: d.Status,
		StartedAt: d.StartedAt.Unix(), HeartbeatAgeMS: max(d.HeartbeatAge.Milliseconds(), 0),
		InFlight: d.InFlight, Processed: d.Completed + d.Failed, Failed: d.Failed,
	}
}

// daemonListParams ask for the daemons that live, or also for those that have
// stopped or died, for a day.
type daemonListParams struct{ all bool }

func (p *daemonListParams) read(in *input) {
	p.all = in.oneOf("all", "false", "false", "true") == "true"
}

func (s *Server) listDaemons(ctx context.Context, _ caller, p daemonListParams) (page[daemonObject], error) {
	daemons, err := s.cfg.Store.Daemons(ctx)
	if !p.all {
		daemons = slices.DeleteFunc(daemons, func(d postgres.DaemonStatus) bool { return d.Status == "dead" })
	}
	return wholePage(daemons, asDaemon), err
}
