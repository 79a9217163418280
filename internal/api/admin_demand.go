package api

import (
	"context"

	"fusillade/internal/batch"
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

// modelDemandObject is how much one model has to do. It is there for every name,
// so that an autoscaler always reads a number.
type modelDemandObject struct {
	Object     string `json:"object"`
	Model      string `json:"model"`
	Pending    int64  `json:"pending"`    // wait for a claim
	Claimed    int64  `json:"claimed"`    // wait in the stream
	Processing int64  `json:"processing"` // are called, or back off
	Total      int64  `json:"total"`
}

func (s *Server) modelDemand(ctx context.Context, _ caller, p modelParams) (modelDemandObject, error) {
	d, err := s.cfg.Store.QueueDepth(ctx, batch.Model(p.name))
	return modelDemandObject{
		Object: "admin.model_demand", Model: p.name,
		Pending: d.Pending, Claimed: d.Claimed, Processing: d.Processing, Total: d.Pending + d.Claimed + d.Processing,
	}, err
}
