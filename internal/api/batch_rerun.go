package api

import (
	"context"
	"slices"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// batchRerunParams name a batch, and which of its requests are to be rerun: by
// line, by state, or those that failed.
type batchRerunParams struct {
	batchParams
	upstreamKey string // empty: none
	body        struct {
		Statuses []batch.State `json:"statuses"`
		Lines    []int32       `json:"lines"`
	}
}

func (p *batchRerunParams) read(in *input) {
	p.batchParams.read(in)
	p.upstreamKey = in.upstreamKey()
	in.optionalJSON(&p.body)
	checkLines(in, p.body.Lines)
	if len(p.body.Statuses) > maxStatuses {
		in.fail(invalid("statuses", codeInvalid, "statuses must be at most %d.", maxStatuses))
	}
	if p.body.Lines != nil && len(p.body.Statuses) > 0 {
		in.fail(invalid("lines", codeInvalid, "lines and statuses exclude each other."))
	}
	if len(p.body.Statuses) == 0 {
		p.body.Statuses = []batch.State{batch.Failed}
	}
	slices.Sort(p.body.Statuses)
	p.body.Statuses = slices.Compact(p.body.Statuses)
	if slices.ContainsFunc(p.body.Statuses, func(s batch.State) bool { return !s.Rerunnable() }) {
		in.fail(invalid("statuses", codeInvalid, "statuses must be some of failed, canceled, expired."))
	}
}

// rerunBatch begins requests anew that did not complete. Their lines leave the
// error file.
func (s *Server) rerunBatch(ctx context.Context, who caller, p batchRerunParams) (batchOrLines, error) {
	b, err := s.cfg.Store.GetBatch(ctx, p.id, who.scope())
	if err != nil {
		return batchOrLines{}, err
	}
	if b.CreatedBy != who.owner {
		who.allowance = s.cfg.Allowance // what the owner's key says is not known
	}
	if err := s.renewKey(ctx, b, p.upstreamKey); err != nil {
		return batchOrLines{}, err
	}
	if p.body.Lines != nil {
		out, err := linesChanged(ctx, b.ID, p.body.Lines, func(ctx context.Context, id batch.ID, lines []int32) (postgres.Lines, error) {
			return s.cfg.Controller.RerunLines(ctx, id, who.allowance, lines)
		})
		if err != nil || len(out.lines.Changed) == 0 {
			s.dropKey(ctx, b)
		} else {
			s.changed(who, "requests of a batch rerun", b, "requests", len(out.lines.Changed))
		}
		return out, err
	}
	n, err := s.cfg.Controller.Rerun(ctx, b.ID, who.allowance, p.body.Statuses...)
	if n == 0 {
		s.dropKey(ctx, b)
	}
	switch {
	case err != nil:
		return batchOrLines{}, err
	case n == 0:
		return batchOrLines{}, conflict("nothing_to_retry", "The batch has no request in these states: %s. There is nothing to rerun.", joinStates(p.body.Statuses))
	}
	s.changed(who, "batch rerun", b, "requests", n)
	return s.batchChanged(ctx, who, b.ID)
}

func joinStates(states []batch.State) string {
	names := make([]string, len(states))
	for i, state := range states {
		names[i] = string(state)
	}
	return strings.Join(names, ", ")
}
