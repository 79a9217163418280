package api

import (
	"context"
	"errors"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// linesObject says what became of single requests, by their lines in the file.
type linesObject struct {
	ID     string `json:"id"`
	Object string `json:"object"`
	// Each line that was named is in one of the two.
	Changed   []int32 `json:"changed"`
	Unchanged []int32 `json:"unchanged"` // their state did not allow it
}

// changeLines cancels or retries single requests of a batch.
func (s *Server) changeLines(c *call, id batch.ID, lines []int32, change func(context.Context, batch.ID, []int32) (postgres.Lines, error)) (linesObject, error) {
	if len(lines) == 0 || len(lines) > postgres.MaxLines || slices.Min(lines) < 1 {
		return linesObject{}, invalid("lines", codeInvalid, "lines must be 1 to %d line numbers, from 1 on.", postgres.MaxLines)
	}
	done, err := change(c.Context(), id, lines)
	if errors.Is(err, batch.ErrNotFound) {
		return linesObject{}, invalid("lines", codeInvalid, "lines names a line that the file does not have.")
	}
	if err != nil {
		return linesObject{}, err
	}
	out := linesObject{ID: id.String(), Object: "batch.lines", Changed: done.Changed, Unchanged: done.Unchanged}
	for _, list := range []*[]int32{&out.Changed, &out.Unchanged} {
		if *list == nil {
			*list = []int32{}
		}
	}
	return out, nil
}
