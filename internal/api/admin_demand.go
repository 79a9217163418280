package api

import (
	"context"

	"fusillade/internal/postgres"
)

// demandObject is what waits for one model in batches of one window.
type demandObject struct {
	Object           string `json:"object"`
	Model            string `json:"model"`
	CompletionWindow string `json:"completion_window"`
	Pending          int64  `json:"pending"`
	ExpiresAt        int64  `json:"expires_at"` // the earliest deadline
}

func (d demandObject) id() string { return d.Model }

func asDemand(d postgres.Demand) demandObject {
	return demandObject{Object: "admin.demand", Model: string(d.Model), CompletionWindow: d.Window, Pending: d.Pending, ExpiresAt: d.Deadline.Unix()}
}

func (s *Server) listDemand(ctx context.Context, _ caller, _ none) (page[demandObject], error) {
	demand, err := s.cfg.Store.Demand(ctx)
	return wholePage(demand, asDemand), err
}
