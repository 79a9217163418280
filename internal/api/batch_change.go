package api

import (
	"context"

	"fusillade/internal/batch"
)

// batchChangeParams name a batch, and what is to change about it.
type batchChangeParams struct {
	batchParams
	body struct {
		Priority *int `json:"priority"`
	}
}

func (p *batchChangeParams) read(in *input) {
	p.batchParams.read(in)
	in.json(&p.body)
	switch priority := p.body.Priority; {
	case priority == nil:
		in.fail(invalid("priority", codeMissing, "Missing required parameter: 'priority'."))
	case *priority < -batch.MaxPriority || *priority > batch.MaxPriority:
		in.fail(invalid("priority", codeInvalid, "priority %v.", batch.ErrPriority))
	}
}

// changeBatch changes a batch that has not ended.
func (s *Server) changeBatch(ctx context.Context, who caller, p batchChangeParams) (batchOrLines, error) {
	b, err := s.cfg.Store.GetBatch(ctx, p.id, &who.owner)
	if err != nil {
		return batchOrLines{}, err
	}
	if err := s.cfg.Store.SetBatchPriority(ctx, b.ID, *p.body.Priority); err != nil {
		return batchOrLines{}, err
	}
	return s.batchChanged(ctx, who, b.ID)
}
