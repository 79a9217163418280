package api

import (
	"context"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// batchChangeParams name a batch, and what is to change about it.
type batchChangeParams struct {
	batchParams
	body struct {
		Priority *int        `json:"priority"`
		Budget   *budgetBody `json:"budget"`
	}
	budget batch.Budget // without prices
}

func (p *batchChangeParams) read(in *input) {
	p.batchParams.read(in)
	in.json(&p.body, paramBudgetTokens, paramBudgetCost)
	priority := p.body.Priority
	switch {
	case priority == nil && p.body.Budget == nil:
		in.fail(invalid("priority", codeMissing, "Missing required parameter: 'priority' or 'budget'."))
	case priority != nil && (*priority < -batch.MaxPriority || *priority > batch.MaxPriority):
		in.fail(invalid("priority", codeInvalid, "priority %v.", batch.ErrPriority))
	}
	p.budget = p.body.Budget.read(in)
}

// changeBatch changes a batch: its priority only if it has not ended.
func (s *Server) changeBatch(ctx context.Context, who caller, p batchChangeParams) (batchOrLines, error) {
	b, err := s.cfg.Store.GetBatch(ctx, p.id, &who.owner)
	if err != nil {
		return batchOrLines{}, err
	}
	change := postgres.BatchChange{Priority: p.body.Priority}
	if p.body.Budget != nil {
		budget, err := s.priced(ctx, p.budget, b.File)
		if err != nil {
			return batchOrLines{}, err
		}
		change.Budget = &budget
	}
	spent, err := s.cfg.Store.ChangeBatch(ctx, b.ID, change)
	if err != nil {
		return batchOrLines{}, err
	}
	if spent {
		s.cfg.Wake() // the leader ends what is left; without the hint it does so a little later
	}
	if change.Priority != nil {
		s.changed(who, "priority of a batch changed", b, "priority", *change.Priority)
	}
	if change.Budget != nil {
		s.changed(who, "budget of a batch changed", b)
	}
	return s.batchChanged(ctx, who, b.ID)
}
