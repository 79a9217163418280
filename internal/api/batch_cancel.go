package api

import (
	"context"
	"errors"

	"fusillade/internal/batch"
)

// batchCancelParams name a batch, and lines of it if not all are to be
// canceled.
type batchCancelParams struct {
	batchParams
	body struct {
		Lines []int32 `json:"lines"`
	}
}

func (p *batchCancelParams) read(in *input) {
	p.batchParams.read(in)
	in.optionalJSON(&p.body)
	checkLines(in, p.body.Lines)
}

// cancelBatch cancels the batch at once, so that the answer shows it cancelled
// already, or single requests of it. Asked again it shows the same.
func (s *Server) cancelBatch(ctx context.Context, who caller, p batchCancelParams) (batchOrLines, error) {
	b, err := s.cfg.Store.GetBatch(ctx, p.id, who.scope())
	if err != nil {
		return batchOrLines{}, err
	}
	if p.body.Lines != nil {
		out, err := linesChanged(ctx, b.ID, p.body.Lines, s.cfg.Controller.CancelRequests)
		if err == nil {
			s.changed(who, "requests of a batch canceled", b, "requests", len(out.lines.Changed))
		}
		return out, err
	}
	_, err = s.cfg.Controller.Cancel(ctx, b.ID)
	var finished *batch.BatchFinishedError
	if errors.As(err, &finished) && finished.Status == batch.StatusCancelled {
		err = nil // asked again
	}
	if err != nil {
		return batchOrLines{}, err
	}
	if finished == nil {
		s.changed(who, "batch canceled", b)
	}
	return s.batchChanged(ctx, who, b.ID)
}
