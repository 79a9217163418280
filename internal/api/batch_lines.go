package api

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// linesObject tells of single requests, by their lines in the file, whether
// they were changed.
type linesObject struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	// Each line that was named is in one of the two.
	Changed   []int32 `json:"changed"`
	Unchanged []int32 `json:"unchanged"` // their state did not allow it
}

// batchOrLines is what a cancel and a rerun answer with: the lines, if single
// ones were changed, else the batch.
type batchOrLines struct {
	batch batchObject
	lines *linesObject
}

// MarshalJSON encodes the one of the two that there is.
func (o batchOrLines) MarshalJSON() ([]byte, error) {
	if o.lines != nil {
		return json.Marshal(o.lines)
	}
	return json.Marshal(o.batch)
}

// checkLines checks the lines that a body names; nil: it names none.
func checkLines(in *input, lines []int32) {
	if lines != nil && (len(lines) == 0 || len(lines) > postgres.MaxLines || slices.Min(lines) < 1) {
		in.fail(invalid("lines", codeInvalid, "lines must be 1 to %d line numbers, from 1 on.", postgres.MaxLines))
	}
}

// linesChanged cancels or reruns single requests of a batch, and shows which.
func linesChanged(ctx context.Context, id batch.ID, lines []int32, change func(context.Context, batch.ID, []int32) (postgres.Lines, error)) (batchOrLines, error) {
	done, err := change(ctx, id, lines)
	var unknown *batch.NoLineError
	if errors.As(err, &unknown) {
		err = invalid("lines", codeInvalid, "lines has %d, which is no line of the file.", unknown.Line)
	}
	if err != nil {
		return batchOrLines{}, err
	}
	return batchOrLines{lines: &linesObject{
		ID: id.String(), Object: "batch.lines",
		// Lists, not null, for clients that iterate.
		Changed: append([]int32{}, done.Changed...), Unchanged: append([]int32{}, done.Unchanged...),
	}}, nil
}

// batchChanged shows the batch after a change.
func (s *Server) batchChanged(ctx context.Context, who caller, id batch.ID) (batchOrLines, error) {
	b, err := s.cfg.Store.GetBatch(ctx, id, who.scope())
	return batchOrLines{batch: asBatch(b)}, err
}
